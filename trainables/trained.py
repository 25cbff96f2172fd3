"""A trained model from the weights that a run leaves, for use: uint8 images in, logits out."""

from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.registry import build_model
from trainables.training import build_loss

__all__ = ["TrainedModel", "load_model"]


class TrainedModel(nn.Module):
    """A classifier: the model of a trial and the class weights of its loss, in evaluation.

    Args:
        body: images (N, C, H, W) to embeddings (N, D).
        loss: has the logits of embeddings, without a margin.
        image_shape: (H, W, C) of its images.
        mean: (C,) of images scaled to [0, 1]; std: (C,) likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, loss: nn.Module, image_shape: tuple[int, int, int], mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.body, self.loss, self.image_shape = body, loss, image_shape
        self.register_buffer("mean", mean.view(1, 1, 1, -1))
        self.register_buffer("std", std.view(1, 1, 1, -1))
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, H, W, C) uint8.

        Raises:
            ValueError: they have another shape or type.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            shape = "x".join(map(str, self.image_shape))
            raise ValueError(f"needs uint8 images (N, {shape}), got {images.dtype} {tuple(images.shape)}")
        normalised = (images.float() / 255 - self.mean) / self.std
        logits: Tensor = self.loss.logits(self.body(normalised.permute(0, 3, 1, 2)))  # type: ignore[operator]
        return logits


def load_model(path: Path | str, device: torch.device | str = "cpu") -> TrainedModel:
    """Return the model whose weights a run has left, in float32.

    Args:
        path: ``winner_<loss>.pt``, trained on all training images and tested, or ``best_<loss>.pt`` of the search.
        device: where it is wanted.

    Raises:
        UserError: the file is missing, is no such file, or was written before a model's images were described in it.
    """
    try:
        # Nothing but tensors and plain values is unpickled.
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["data"]
        config = TrialConfig.from_dict(state["config"])
    except Exception as error:  # noqa: BLE001  whatever torch cannot read is no file of weights
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: no weights of a trained model ({reason})") from None
    height, width, channels = known["image_shape"]
    body = build_model(config.model, (height, width, channels), config.embedding_dim)
    loss = build_loss(config, known["num_classes"], steps_per_epoch=1)
    body.load_state_dict(state["model"])
    loss.load_state_dict(state["loss"])
    mean, std = (torch.tensor(known[name], dtype=torch.float32) for name in ("mean", "std"))
    return TrainedModel(body, loss, (height, width, channels), mean, std).to(device)
