"""Where a result came from: versions, code, hardware."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from trainables.processor import cpu_name
from tune.storage.url import hidden_secrets

__all__ = ["git_state", "hardware", "versions"]

_PACKAGES = ("adaloss-search", "ray", "torch", "torchvision", "optuna", "numpy", "pandas", "scikit-learn", "pillow")
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, of Windows' subsystem for Linux
_PROJECT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@hidden_secrets()
def git_state() -> dict[str, Any]:
    """Return the revision of the code and whether it was changed since; None where neither is known.

    An image has no history, and says in ADALOSS_REVISION what `git describe --dirty` said when it was built.
    """
    built_from = os.environ.get("ADALOSS_REVISION")
    if built_from:
        return {"revision": built_from.removesuffix("-dirty"), "dirty": built_from.endswith("-dirty")}
    revision = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_PROJECT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@hidden_secrets()  # the platform's name is asked of a program
def hardware() -> dict[str, Any]:
    """Return this machine's processor, memory and GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": _gpu_names(),
    }


def _gpu_names() -> list[str]:
    """Return the names of this machine's GPUs; torch, which takes seconds, is asked only where there is a driver."""
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
