"""Random numbers that are a function of a seed and a count: no generator to save, the same on every device."""

import math

import torch
from torch import Tensor

__all__ = ["normal_at"]

# SplitMix64's constants as the signed integers that have the same 64 bits.
_STEP, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _xor_shifted(bits: Tensor, by: int) -> Tensor:
    """Return bits ^ (bits >> by), with zeros moved in from the left: torch moves in the sign."""
    return bits ^ ((bits >> by) & ((1 << (64 - by)) - 1))


def normal_at(seed: Tensor, counts: Tensor) -> Tensor:
    """Return standard normal numbers, one for each count.

    z = SplitMix64 of seed + (count + 1) 0x9E3779B97F4A7C15,  u = ((z >> 11) + 1/2) / 2^53,  sqrt(2) erfinv(2 u - 1)

    Args:
        seed: (), int64.
        counts: (N,), int64; each gives one of the numbers that SplitMix64 gives one after another.

    Returns:
        (N,), float64.

    Reference:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, for the bits.
    """
    bits = seed + (counts + 1) * _STEP  # integers wrap around at 2^64
    bits = _xor_shifted(bits, 30) * _FIRST
    bits = _xor_shifted(bits, 27) * _SECOND
    bits = _xor_shifted(bits, 31)
    uniform = (((bits >> 11) & ((1 << 53) - 1)).to(torch.float64) + 0.5) / 2.0**53
    return math.sqrt(2.0) * torch.erfinv(2.0 * uniform - 1.0)
