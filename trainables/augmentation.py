"""Batches cut from a data set that is resident on the device: gathered, cropped, flipped and normalised at once.

No per-image Python. All random draws of an epoch are made up front on the CPU, so that they are the same on every
device and depend on the seed and the epoch alone.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.seeds import stream_seed

__all__ = ["ResidentImages"]


class ResidentImages:
    """Images and labels of one split on the device.

    Args:
        images: (N, H, W, C) uint8; read-only shared memory is used in place when the device is the CPU.
        labels: (N,) int64.
        mean: (C,) of images scaled to [0, 1].
        std: (C,) likewise.
        device: where the batches are wanted.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
    ) -> None:
        with warnings.catch_warnings():
            # Ray's object store hands out read-only memory; nothing here writes to it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.images = torch.from_numpy(np.ascontiguousarray(images)).to(device)  # (N, H, W, C)
            self.labels = torch.from_numpy(labels).to(device)  # (N,)
        self.device = device
        # One value for each byte of an image's row: on a CPU, vectors of three channels take five times as long.
        width = images.shape[2]
        self._shift = (torch.tensor(mean, device=device) * 255).repeat(width)  # (W C,)
        self._scale = (1 / (torch.tensor(std, device=device) * 255)).repeat(width)  # (W C,)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, unchanged but normalised: (B, C, H, W) float32 and (B,) int64."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield self._normalised(self.images[chosen]), self.labels[chosen]

    def augmented_batches(
        self, batch_size: int, *, crop_padding: int, horizontal_flip: bool, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch of training batches in random order; images that do not fill a last batch are left out.

        Crops come from an image with `crop_padding` pixels of reflected border. Flips alternate: an image is flipped
        in every other epoch, which half of them start (airbench, arXiv:2404.00498, section 3.6).

        Args:
            batch_size: B, at most N.
            crop_padding: 0 for no crops.
            horizontal_flip: whether to flip.
            seed: of the experiment.
            epoch: of the experiment, from 0.

        Raises:
            ValueError: if the border is wider than a reflection can fill.
        """
        count, height, width, channels = self.images.shape
        if crop_padding >= min(height, width):
            raise ValueError(f"crop_padding must be less than the images' {height}x{width} pixels, got {crop_padding}")
        generator = torch.Generator().manual_seed(stream_seed(seed, 1, epoch))
        order = torch.randperm(count, generator=generator).to(self.device)
        offsets = torch.randint(0, 2 * crop_padding + 1, (2, count), generator=generator).to(self.device)
        flip_first = torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(stream_seed(seed, 2)))
        flipped = (flip_first.to(self.device) + epoch) % 2 == 1  # (N,)

        rows = _reflect(torch.arange(-crop_padding, height + crop_padding, device=self.device), height)
        cols = _reflect(torch.arange(-crop_padding, width + crop_padding, device=self.device), width)
        span_h, span_w = torch.arange(height, device=self.device), torch.arange(width, device=self.device)
        image_rows = self.images.view(count * height, width * channels)
        span_c = torch.arange(channels, device=self.device)
        for start in range(0, count - batch_size + 1, batch_size):
            index = order[start : start + batch_size]
            if not crop_padding and not horizontal_flip:
                yield self._normalised(self.images[index]), self.labels[index]
                continue
            row = rows[offsets[0, index, None] + span_h]  # (B, H)
            col = cols[offsets[1, index, None] + span_w]  # (B, W)
            if horizontal_flip:
                col = torch.where(flipped[index, None], col.flip(1), col)
            # First whole rows, then bytes within them: on a CPU a fifth of the time of one gather with three indices.
            chosen = image_rows.index_select(0, (index[:, None] * height + row).flatten())  # (B H, W C)
            byte = (col[:, None, :, None] * channels + span_c).view(batch_size, 1, -1)  # (B, 1, W C)
            images = chosen.view(batch_size, height, -1).gather(2, byte.expand(-1, height, -1))  # (B, H, W C)
            yield self._normalised(images.view(-1, height, width, channels)), self.labels[index]

    def _normalised(self, images: Tensor) -> Tensor:
        floats = images.flatten(2).to(torch.float32).sub_(self._shift).mul_(self._scale)  # (B, H, W C)
        return floats.view(images.shape).permute(0, 3, 1, 2)  # (B, C, H, W), channels_last in memory


def _reflect(position: Tensor, size: int) -> Tensor:
    """Mirror positions outside [0, size) at the edge pixels, which are not repeated."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)
