"""The learning-rate schedule, and the precision that "auto" stands for."""

import numpy as np
import pytest
import torch

from trainables.training import one_cycle, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.25, 0.9])
def test_one_cycle_rises_to_one_and_falls_to_zero(warmup_fraction: float) -> None:
    progress = np.linspace(0, 1, 1001)
    rates = np.array([one_cycle(float(p), warmup_fraction) for p in progress])
    assert rates[0] == (0.0 if warmup_fraction else 1.0)
    assert rates[-1] == 0.0
    assert one_cycle(warmup_fraction, warmup_fraction) == 1.0
    assert ((rates >= 0) & (rates <= 1)).all()
    assert (np.diff(rates[progress <= warmup_fraction]) > 0).all()
    assert (np.diff(rates[progress >= warmup_fraction]) < 0).all()
    expected = np.interp(progress, [0, warmup_fraction, 1], [0, 1, 0]) if warmup_fraction else 1 - progress
    np.testing.assert_allclose(rates, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, "float32"), (True, False, "bf16"), (False, True, "bf16"), (True, True, "bf16")],
)
def test_a_cpu_uses_bf16_where_it_computes_in_it(
    avx512: bool, amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float32", CPU) == "float32"
    assert resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_uses_fp16_where_bf16_is_emulated(native: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("fp16", torch.device("cuda")) == "fp16"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        resolve_precision("fp16", CPU)
