"""Which images a run got right, as a line of text: a bit an image."""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from tune.records.schema import RecordError

__all__ = ["unpack_bits"]


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Return bits that :func:`trainables.evaluation.pack_bits` made a text of.

    Args:
        text: base64 of bytes, the first bit being the highest of the first byte; the last byte is filled up by zeros.
        count: of the bits.

    Returns:
        (count,) bits.

    Raises:
        RecordError: the text is not of so many bits.
    """
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError):
        raise RecordError("the bits of the test images are no base64") from None
    if len(packed) != -(-count // 8):
        raise RecordError(f"the bits of the test images are {8 * len(packed)}, not {count} filled up to whole bytes")
    bits = np.unpackbits(packed)
    if bits[count:].any():
        raise RecordError(f"there are more bits of test images than {count}")
    return bits[:count].astype(bool)
