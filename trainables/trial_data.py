"""The images that all trials of a search read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.loss_code import LossCode

__all__ = ["TrialData"]


@dataclass(frozen=True)
class TrialData:
    """What all trials of a search read, in Ray's object store once a node.

    Args:
        train_images: (N, H, W, C) uint8; train_labels: (N,) int64.
        validation_images: (M, H, W, C) uint8; validation_labels: (M,) int64. Both None: epochs are not judged.
        mean: (C,) of images scaled to [0, 1]; std: (C,) likewise.
        num_classes: number of classes.
        test_images: (L, H, W, C) uint8; test_labels: (L,) int64. Used after the last epoch alone; a search has none.
        class_names: a name a class, in the order of the labels; empty where nobody has told them.
        are_photos: whether the images were a user's photos, turned upright and scaled, and not taken as they are.
        losses: the code of losses that are not part of this project.

    Raises:
        ValueError: if there are images without labels or labels without images.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    validation_images: npt.NDArray[np.uint8] | None
    validation_labels: npt.NDArray[np.int64] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    test_images: npt.NDArray[np.uint8] | None = None
    test_labels: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    are_photos: bool = False
    losses: tuple[LossCode, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return what a trained model has to know of its images, as plain values.

        Their shape (H, W, C), mean and std, how many classes there are and what they are called, and whether the images
        were made of photos: later ones have to be treated alike.
        """
        return {
            "image_shape": list(self.train_images.shape[1:]),
            "mean": list(self.mean),
            "std": list(self.std),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "are_photos": self.are_photos,
        }

    def __post_init__(self) -> None:
        for part in ("validation", "test"):
            if (getattr(self, f"{part}_images") is None) != (getattr(self, f"{part}_labels") is None):
                raise ValueError(f"{part} images and {part} labels must be given together")
