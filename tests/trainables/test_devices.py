import pytest
import torch

from trainables.devices import NoCudaDeviceError, device_for, device_name, is_out_of_memory
from trainables.processor import cpu_name

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_a_cpu_has_a_name():
    assert cpu_name()
    assert device_name(torch.device("cpu")) == cpu_name()


@needs_cuda
def test_a_gpu_has_a_name():
    assert device_name(torch.device("cuda")) == torch.cuda.get_device_name(0)


def test_a_trial_without_a_share_of_a_gpu_leaves_it_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_for(0) == torch.device("cpu")
    assert device_for(0.25) == torch.device("cuda")


def test_a_gpu_that_torch_does_not_find_is_not_replaced_by_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoCudaDeviceError, match=r"torch [\d.]+.* finds no CUDA device on ."):
        device_for(0.25)


def error_of(call):
    with pytest.raises((RuntimeError, MemoryError)) as error:
        call()
    return error.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_is_used_up_is_recognised(error):
    assert is_out_of_memory(error)


def test_so_is_that_of_the_host_as_torch_reports_it():
    assert is_out_of_memory(error_of(lambda: torch.empty(2**60, dtype=torch.uint8)))


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert"), ValueError("out of memory"), KeyError("out of memory")]
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
