"""The base class of heads: a network on a world model's features that knows to which world model it belongs."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.models.base import WorldModel
from wm_agents.models.modes import prediction_modes


class Head(nn.Module):
    """A network on the features ``[..., F]`` of one world model; checkpoints and agents store heads by name.

    A new head is a subclass, a learner, and one line in ``wm_agents.registry.HEADS``.

    Args:
        config: Of the class ``Config``, a frozen dataclass with at least ``latent_size``, which is F.

    Attributes:
        fingerprint: float32 ``[F]``, the features of a black image in the world model that it was made on.
    """

    name: ClassVar[str]
    """Name in ``wm_agents.registry.HEADS``."""
    Config: ClassVar[type]
    learner: ClassVar[Any]
    """The learner that trains it, or ``"module:Learner"``."""
    fingerprint: torch.Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("fingerprint", torch.zeros(config.latent_size))

    def stamp(self, world_model: WorldModel) -> None:
        """Remember that the head was made on the latents of this world model."""
        self.fingerprint.copy_(fingerprint(world_model))

    def check(self, world_model: WorldModel) -> None:
        """Raise ``ValueError`` unless the head was made on the latents of this world model.

        Fingerprints of other world models differ by about their length; rounding the weights to half precision moves
        PushT's by 0.03% of its length. A head whose fingerprint is all zero was never stamped, and passes if its size
        fits.
        """
        own, known = fingerprint(world_model).cpu(), self.fingerprint.cpu()
        if not own.isfinite().all():
            raise ValueError("the world model's latents are NaN or infinite: it has collapsed or diverged.")
        fits = own.shape == known.shape
        if not fits or (known.any() and not (own - known).norm() <= 0.02 * own.norm()):
            raise ValueError(
                f"the {self.name} head was made on another world model: its latents mean something else. Make one on "
                "this world model, or pass the world model that it was made on."
            )


def fingerprint(world_model: WorldModel) -> torch.Tensor:
    """The features ``[F]`` of a black image."""
    size, device = world_model.spec.image_size, world_model.action_mean.device
    with prediction_modes(device), evaluating(world_model):
        black = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)
        return world_model.features(world_model.encode(black))[0]


class evaluating:  # noqa: N801 - a context manager that reads like a verb, as torch.no_grad does
    """Put the modules into evaluation mode inside, and restore the mode of each part afterwards."""

    def __init__(self, *modules: nn.Module) -> None:
        self.training = [part for module in modules for part in module.modules() if part.training]

    def __enter__(self) -> None:
        for part in self.training:
            part.training = False

    def __exit__(self, *_: object) -> None:
        for part in self.training:
            part.training = True
