"""Photos as cameras leave them, and a decoding of them that shares nothing with the project's own."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.io import ImageReadMode, read_image

_TURNED = 0x0112
# What a camera did to an upright picture for each value of the tag, as the EXIF standard (JEITA CP-3451) has it.
HELD = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width, height, seed):
    """A picture with large shapes and some noise, other in each corner."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [np.sin(3 * x + seed), np.cos(5 * y - seed), x * y]
    picture = np.stack([127 + 100 * channel for channel in channels], axis=-1) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def save(picture, path, turned=1):
    """Save an upright picture as a camera that was held in some way does."""
    held = picture if HELD[turned] is None else picture.transpose(HELD[turned])
    exif = Image.Exif()
    exif[_TURNED] = turned
    path.parent.mkdir(parents=True, exist_ok=True)
    held.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


def mixed(folder, count=300):
    """Photos of three classes, of mixed sizes, modes, kinds and orientations, in folders a, b and c."""
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = (2 * int(side) for side in rng.integers(20, 160, 2))
        picture = scene(width, height, number)
        if number % 7 == 0:
            picture = picture.convert("L")
        save(picture, folder / "abc"[number % 3] / f"{number:03d}{('.jpg', '.png')[number % 2]}", 1 + number % 8)
    return folder


def decoded_otherwise(path):
    """The middle square at 32x32, by torchvision and torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torchvision's decoders, which still are the other ones
        image = read_image(str(path), ImageReadMode.RGB, apply_exif_orientation=True).float()
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[None, :, top : top + side, left : left + side]
    small = F.interpolate(square, (32, 32), mode="bicubic", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
