"""A trained model from the weights that a run leaves, for use: uint8 images in, logits out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.loss_code import LossCode, find_loss, register_losses
from trainables.losses import LOSSES, ClassifierLoss
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
        class_names: a name a class, in the order of the logits; empty where its file was written before it had them.
        are_photos: whether its images were a user's photos, turned upright and scaled; None where its file says not.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        loss: ClassifierLoss,
        image_shape: tuple[int, int, int],
        mean: Tensor,
        std: Tensor,
        class_names: tuple[str, ...] = (),
        are_photos: bool | None = None,
    ) -> None:
        super().__init__()
        self.body, self.loss, self.image_shape = body, loss, image_shape
        self.class_names, self.are_photos = class_names, are_photos
        self.register_buffer("mean", mean.view(1, 1, 1, -1))
        self.register_buffer("std", std.view(1, 1, 1, -1))
        self.eval()

    @property
    def num_classes(self) -> int:
        """How many logits there are for an image."""
        return int(self.loss.num_classes)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, H, W, C) uint8.

        Raises:
            ValueError: they have another shape or type.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            shape = "x".join(map(str, self.image_shape))
            raise ValueError(f"needs uint8 images (N, {shape}), got {images.dtype} {tuple(images.shape)}")
        return self.logits(images)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of images (N, H, W, C) in grey levels from 0 to 255, which are not looked at before."""
        normalised = (images.float() / 255 - self.mean) / self.std
        return self.loss.logits(self.body(normalised.permute(0, 3, 1, 2)))


def load_model(path: Path | str, device: torch.device | str = "cpu", loss: str | None = None) -> TrainedModel:
    """Return the model whose weights a run has left, in float32.

    Args:
        path: ``winner_<loss>.pt``, trained on all training images and tested, or ``best_<loss>.pt`` of the search.
        device: where it is wanted.
        loss: code of its loss, ``FILE.py:CLASS``, where that is the user's own: a file of weights has nothing run.

    Raises:
        UserError: the file is missing, is no such file, or was written before a model's images were described in it; or
            its loss is one's own, and the code of it is not named, or other code.
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
    _know_loss(path, config.loss, state.get("loss_code"), loss)
    body = build_model(config.model, (height, width, channels), config.embedding_dim)
    head = build_loss(config, known["num_classes"], steps_per_epoch=1)
    body.load_state_dict(state["model"])
    head.load_state_dict(state["loss"])
    mean, std = (torch.tensor(known[name], dtype=torch.float32) for name in ("mean", "std"))
    names = tuple(map(str, known.get("class_names", ())))
    if names and len(names) != known["num_classes"]:
        raise UserError(f"{path}: {len(names)} class names for {known['num_classes']} classes; it is damaged")
    shape = (height, width, channels)
    return TrainedModel(body, head, shape, mean, std, names, known.get("are_photos")).to(device)


def _know_loss(path: Path | str, name: str, recorded: dict[str, Any] | None, given: str | None) -> None:
    """Have LOSSES know the loss of a file of weights."""
    if recorded is None:
        if given is not None:
            raise UserError(f"--loss {given}: the loss of {path} is {name}, of this project; leave the option out")
        if name not in LOSSES:
            raise UserError(f"{path}: there is no loss {name} here; it is of another version")
        return
    own = LossCode.from_dict(recorded)
    if given is None and own.must_be_named:
        raise UserError(
            f"{path}: its loss {name} is code of its user's own, which runs only where you name it: add --loss "
            f"{own.reference}, or the copy that its run has kept"
        )
    code, _ = find_loss(given or own.reference)
    if (code.name, code.sha256) != (own.name, own.sha256):
        raise UserError(f"--loss {code.reference}: it is not the code with which {path} was trained")
    register_losses([code])
