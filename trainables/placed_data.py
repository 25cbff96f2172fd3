"""The images of a search on the device that trains on them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainables.augmentation import ResidentImages
from trainables.trial_data import TrialData

__all__ = ["PlacedData"]


@dataclass
class PlacedData:
    """The images of a search on the device."""

    train: ResidentImages
    validation: ResidentImages | None
    test: ResidentImages | None

    @classmethod
    def of(cls, data: TrialData, device: torch.device) -> "PlacedData":
        """Place what there is."""

        def placed(images: npt.NDArray[np.uint8] | None, labels: npt.NDArray[np.int64] | None) -> ResidentImages | None:
            if images is None or labels is None:
                return None
            return ResidentImages(images, labels, data.mean, data.std, device)

        return cls(
            ResidentImages(data.train_images, data.train_labels, data.mean, data.std, device),
            placed(data.validation_images, data.validation_labels),
            placed(data.test_images, data.test_labels),
        )
