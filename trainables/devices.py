"""What a trial computes on, and whether an error says that memory is used up."""

import platform
from pathlib import Path

import torch

__all__ = ["cpu_name", "device_name", "is_out_of_memory"]

# Beside torch's own OutOfMemoryError: the CPU's allocator, a CUDA context and cuBLAS report plain RuntimeErrors.
_MEMORY_WORDS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the device or of the host, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
