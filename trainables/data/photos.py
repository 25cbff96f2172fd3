"""A user's own photos: files of any size, mode and orientation become the small colour images that the models take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from trainables.data.specs import Shape

__all__ = ["PHOTO_SHAPE", "Header", "Photos", "fitted"]

PHOTO_SHAPE: Shape = (32, 32, 3)
_TURNED = 0x0112  # the EXIF tag that says how the camera was held; 1 is upright
_DEEP = ("I", "I;16", "I;16B", "I;16L")  # grey of 16 bits


@dataclass(frozen=True)
class Header:
    """What a file says of its image before its pixels are decoded."""

    width: int
    height: int
    mode: str
    is_turned: bool

    @classmethod
    def of(cls, image: Image.Image) -> "Header":
        """Read it from an image that was opened."""
        return cls(image.width, image.height, image.mode, image.getexif().get(_TURNED, 1) != 1)


@dataclass(frozen=True)
class Photos:
    """Images that are too large for the models, or a mixture with such.

    Args:
        headers: of all of them.
    """

    headers: tuple[Header, ...]

    @classmethod
    def among(cls, headers: Sequence[Header]) -> "Photos | None":
        """Return images as photos if any of them is larger than the models' images, else None."""
        height, width, _ = PHOTO_SHAPE
        are_photos = any(header.width > width or header.height > height for header in headers)
        return cls(tuple(headers)) if are_photos else None

    def __str__(self) -> str:
        sizes = Counter((header.width, header.height) for header in self.headers)
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        least, most = (f"{width}x{height}" for width, height in (by_area[0], by_area[-1]))
        span = f"of {least} pixels" if len(sizes) == 1 else f"of {len(sizes):,} sizes from {least} to {most} pixels"
        height, width, _ = PHOTO_SHAPE
        parts = [
            f"{len(self.headers):,} images {span} were cropped to their middle square and scaled to {width}x{height}"
        ]
        if turned := sum(header.is_turned for header in self.headers):
            parts.append(f"{turned:,} turned upright as their cameras say")
        if others := sum(header.mode != "RGB" for header in self.headers):
            parts.append(f"{others:,} turned into RGB")
        return ", ".join(parts)


def fitted(image: Image.Image) -> np.ndarray:
    """Return an image as (32, 32, 3) uint8.

    It is turned upright as its EXIF says, transparency becomes white, and the middle square is cut out and scaled by
    bicubic interpolation over all pixels that a small one stands for.
    """
    upright = _in_colour(ImageOps.exif_transpose(image))
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = upright.crop((left, top, left + side, top + side))
    height, width, _ = PHOTO_SHAPE
    return np.asarray(square.resize((width, height), Image.Resampling.BICUBIC))


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP:
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65_535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
