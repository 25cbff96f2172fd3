"""What a trial computes on, and whether an error says that memory is used up."""

import platform

import torch

from trainables.processor import cpu_name

__all__ = ["NoCudaDeviceError", "device_for", "device_name", "is_out_of_memory"]

# Beside torch's own OutOfMemoryError: the CPU's allocator, a CUDA context and cuBLAS report plain RuntimeErrors.
_MEMORY_WORDS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class NoCudaDeviceError(RuntimeError):
    """A trial was given a GPU that torch cannot use: a build without CUDA, or a driver that does not fit."""


def device_for(gpus: float) -> torch.device:
    """Return what a trial with this share of a GPU computes on; with none it is the CPU, whatever there is.

    Raises:
        NoCudaDeviceError: there is a share, and torch finds no GPU.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoCudaDeviceError(f"torch {torch.__version__} finds no CUDA device on {platform.node()}")
    return torch.device("cuda")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the device or of the host, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
