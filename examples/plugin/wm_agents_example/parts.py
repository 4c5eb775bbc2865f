"""One part of each kind, as small as it can be."""

from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.models import Head
from wm_agents.planning.base import Search
from wm_agents.training import HeadLearner


class TinyEncoder(nn.Module):
    """A convolution and a linear layer: uint8 ``[B, H, W, 3] -> [B, features]``."""

    features = 32

    def __init__(self, image_size: int) -> None:
        super().__init__()
        cells = (image_size // 8) ** 2
        self.net = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.SiLU(), nn.Flatten(), nn.Linear(16 * cells, self.features))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.net(pixels.permute(0, 3, 1, 2).float() / 255)


@dataclass
class Straightness:
    """One minus the cosine between successive changes of the latent; an option sets its power."""

    power: float = 1.0

    def __call__(self, batch) -> torch.Tensor:
        change = batch.z[:, 1:] - batch.z[:, :-1]
        return (1 - torch.cosine_similarity(change[:, 1:], change[:, :-1], dim=-1)).pow(self.power).mean()


class BestOfN:
    """The cheapest of N random sequences."""

    def __init__(self, horizon: int, samples: int = 64) -> None:
        self.horizon, self.samples = horizon, samples

    def plan(self, cost, *, low, high, batch=1, init=None, generator=None, on_iteration=None):
        search = Search(self.horizon, cost, low, high, batch, init, generator, on_iteration)
        search.score(search.enter(search.uniform(self.samples).expand(batch, -1, -1, -1)))
        return search.finish()


@dataclass(frozen=True)
class ProbeConfig:
    latent_size: int = 32  # F, filled in when the head is trained
    state_size: int = 4  # S, numbers of the simulator's state


class Probe(Head):
    """Reads the simulator's state off the features: ``[..., F] -> [..., S]``."""

    name = "probe"
    Config = ProbeConfig
    learner = "wm_agents_example.parts:ProbeLearner"

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config)
        self.read = nn.Linear(config.latent_size, config.state_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.read(features)


class ProbeLearner(HeadLearner):
    """Squared error of the state, over random frames."""

    head = Probe

    def loss(self, data, size, rng, generator):
        frames = rng.choice(data.frame_indices(), size)
        error = self.module(self.latents[frames]) - torch.from_numpy(data.states[frames]).float()
        return error.square().mean(), {"probe": error.square().mean()}
