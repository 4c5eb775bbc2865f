"""Hierarchical implicit Q-learning from pixels: values as in GCIVL, and a policy of two levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.agents import HIQL
from wm_agents.baselines.gcivl import GCIVLLearner, GCIVLTrainingConfig, Values
from wm_agents.baselines.offline import train_offline
from wm_agents.configs import check_counts
from wm_agents.models.heads.hiql import HIQLConfig, HIQLPolicy, of_length, perceptron
from wm_agents.training.learner import Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class HIQLTrainingConfig(GCIVLTrainingConfig):
    """How HIQL is trained: :class:`GCIVLTrainingConfig`, with OGBench's values (arXiv 2410.20092, ``impls/``).

    Attributes:
        expectile: Of the values of actions that the value of a frame is.
        temperature: How much more an action, or a subgoal, counts that raises the value.
        subgoal_steps: Environment steps to a subgoal. OGBench takes 10 for cubes.
        code_size: Numbers in the code of a subgoal.
    """

    expectile: float = 0.7
    temperature: float = 3.0
    subgoal_steps: int = 25
    code_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("subgoal_steps", "code_size"))


class CodedValues(Values):
    """Values that know a goal only by a code, which depends on the frame too and has a fixed length.

    Args:
        encoder: See :class:`Values`.
        image_size: See :class:`Values`.
        width: See :class:`Values`.
        code_size: Numbers in a code.
    """

    def __init__(self, encoder: str, image_size: int, width: int, code_size: int) -> None:
        super().__init__(encoder, image_size, width, code_size)
        self.coder = perceptron(2 * self.encoder.features, width, code_size)

    def code(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Codes ``[B, code_size]`` of goals seen from frames, both encoded, ``[B, features]``."""
        return of_length(self.coder(torch.cat([z, goal], dim=-1)))

    def forward(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return super().forward(z, self.code(z, goal))


class HIQLLearner(GCIVLLearner):
    """Learns values as GCIVL does, a high level that proposes codes of subgoals, and a low level that acts on them.

    Both levels clone what is in the data, weighted by how much the value rises: the high level codes of the frame
    ``subgoal_steps`` ahead, towards any later goal; the low level actions, towards that frame. As OGBench does on
    images, the low level trains the codes too.

    It differs from OGBench's HIQL, besides what :class:`OfflineLearner` says, in sharing encoders: the codes have that
    of the values, and the low level that of the high level. And the targets of the values have codes of their own,
    which follow like the rest.
    """

    name = "hiql"
    stream = 7
    Training = HIQLTrainingConfig
    config: HIQLTrainingConfig
    values: CodedValues

    def make_values(self) -> CodedValues:
        config = self.config
        return CodedValues(config.encoder, self.shape.image_size, config.width, config.code_size)

    def make_policy(self, features: int) -> HIQLPolicy:
        config, shape = self.config, self.shape
        return HIQLPolicy(HIQLConfig(features, shape.action_size, config.width, config.code_size, shape.choices))

    def make_agent(self, device: torch.device | str) -> HIQL:
        return HIQL(self.encoder, heads=[self.policy], device=device)

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        if self.module.training:
            self._follow()
        frame = data.segments(size, 1, rng)
        near, far = self._goals(data, frame, rng)
        subgoal, towards = self._subgoals(data, frame, far)
        images = self.images(data, (frame, frame + 1, near, far, subgoal, towards), rng)
        value = self._value_loss(images[0], images[1], images[2], torch.from_numpy(frame == near).to(self.device))

        see = self.values.encoder
        with torch.no_grad():
            then, goal, subgoal_seen = (see(images[part]) for part in (1, 3, 4))
        now, aim = see(images[0]), see(images[5])
        z = self.encoder.encode(images[0])
        errors = self._errors(self.policy.act(z, self.values.code(now, aim)), data, frame)
        low = (self._weights(now, then, aim) * errors).mean()
        proposed = self.policy.propose(z, self.encoder.encode(images[3]))
        wanted = self.values.code(now, subgoal_seen).detach()
        errors = (proposed - wanted).square().sum(dim=1) / 2  # a Gaussian of standard deviation 1, as for actions
        high = (self._weights(now, subgoal_seen, goal) * errors).mean()
        return value + low + high, {self.key: value + low + high, "value": value, "low": low, "high": high}

    def _subgoals(self, data: TrajectoryDataset, frame: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frames that the high level should propose, not beyond its goal, and those that the low level seeks."""
        ahead = frame + self.config.subgoal_steps
        episode = data.episode_of(frame)
        return np.minimum(ahead, goal), np.minimum(ahead, data.starts[episode] + data.lengths[episode])


def train_hiql(dataset: TrajectoryDataset, training: HIQLTrainingConfig | None = None, **options: Any) -> HIQL:
    """Train hierarchical implicit Q-learning (Park et al., arXiv 2307.11949), after OGBench's settings for images.

    Arguments and errors are those of :func:`train_offline`; what differs from OGBench stands at the learner.
    """
    return train_offline(HIQLLearner, dataset, training, **options)
