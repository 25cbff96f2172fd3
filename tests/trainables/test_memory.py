from functools import partial

import pytest
import torch

from tests.trainables import small_actors
from tests.trainables.small_actors import trial_data
from trainables.config import TrialConfig
from trainables.memory import MARGIN, STEPS, MemoryNeed, measure_need, train_a_little

GIBIBYTE = 2**30
trial = partial(small_actors.trial, model="ArcFaceCNN")  # another process measures, and knows no model of a test
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is measured on a CUDA device")


def need(total, free, held, most):
    return MemoryNeed("GPU", *(round(size * GIBIBYTE) for size in (total, free, held, most)))


@pytest.mark.parametrize(
    ("total", "free", "held", "most", "trials"),
    [
        (16, 13.5, 2, 2, 5),  # 2 GiB of tensors and half a GiB of context, with a margin: 2.9 GiB
        (80, 77.5, 2, 2, 27),
        (16, 14.5, 1, 2, 5),  # what a trial held for a moment counts
        (16, 7.5, 2, 2, 3),  # 5.5 GiB besides the context are another program's: three times 3.45 GiB are left
        (8, 0.5, 7, 7, 0),  # with the margin not even one
        (16, 14, 2, 2, 6),  # no context to be seen
        (16, 15, 2, 2, 6),  # figures that do not add up are no reason to fail
    ],
)
def test_as_many_trials_fit_as_memory_holds(total, free, held, most, trials):
    measured = need(total, free, held, most)
    assert measured.trials == trials
    others = max(0, total - free - held - 1) * GIBIBYTE
    assert trials * measured.trial_bytes <= measured.total_bytes - others


def test_a_trial_needs_its_context_and_a_margin():
    assert need(16, 13.5, 2, 2).trial_bytes == int(MARGIN * 2.5 * GIBIBYTE)


def test_a_few_full_batches_are_trained_and_one_evaluated(digits):
    data = trial_data(digits)
    config = TrialConfig.from_dict(trial(batch_size=16)["trial"])
    record = train_a_little(config, data, torch.device("cpu"))
    assert record["epoch"] == 1
    assert record["images_per_s"] * record["seconds"] > STEPS * 16
    assert record["val_accuracy"] >= 0


def test_fewer_images_than_a_batch_are_enough(digits):
    config = TrialConfig.from_dict(trial(batch_size=4096)["trial"])
    assert train_a_little(config, trial_data(digits), torch.device("cpu"))["epoch"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_nothing_to_measure(digits):
    with pytest.raises(RuntimeError, match="no CUDA device"):
        measure_need([trial()["trial"]], trial_data(digits))


@needs_gpu
def test_what_a_trial_holds_is_measured(digits):
    data, config = trial_data(digits), trial()["trial"]
    small = measure_need([config], data)
    assert 0 < small.held_bytes <= small.most_bytes < small.trial_bytes < small.total_bytes
    assert small.trials >= 1
    assert small.device == torch.cuda.get_device_name(0)
    more = measure_need([config], data, further_bytes=GIBIBYTE)
    assert more.most_bytes >= small.most_bytes + GIBIBYTE


@needs_gpu
def test_larger_batches_need_more(digits):
    data = trial_data(digits)
    needs = [measure_need([trial(batch_size=size)["trial"]], data).most_bytes for size in (8, 128)]
    assert needs[0] <= needs[1]


@needs_gpu
def test_what_does_not_fit_at_all_is_an_error(digits):
    total = torch.cuda.mem_get_info()[1]
    with pytest.raises(torch.OutOfMemoryError):
        measure_need([trial()["trial"]], trial_data(digits), further_bytes=2 * total)
    torch.cuda.empty_cache()
