"""HIQL's agent: at every step a code of the next subgoal, then an action towards it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.controller import Controller, Decision, Frames
from wm_agents.agents.memory import Fields
from wm_agents.models.heads.hiql import HIQLPolicy


class HIQLController(Controller):
    """Encodes every step and asks the policy for an action. It remembers nothing."""

    def __init__(self, policy: HIQLPolicy) -> None:
        self.policy = policy

    def modules(self) -> Iterable[nn.Module]:
        return (self.policy,)

    def initial_memory(self, n: int) -> Fields:
        return {}

    def act(self, frames: Frames, memory: Fields) -> Decision:
        features = frames.world_model.features
        actions = self.policy(features(frames.latents()), features(frames.goal))
        return Decision(actions.cpu().numpy(), len(frames), 0)


@dataclass(frozen=True)
class HIQLOptions:
    """Options of :class:`HIQL`: none."""


class HIQL(WorldModelAgent):
    """Hierarchical implicit Q-learning (arXiv 2307.11949); :func:`wm_agents.baselines.train_hiql` makes it.

    Args:
        world_model: The encoder that the policy was trained with.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        heads: "hiql", the policy.
        seed: See :class:`WorldModelAgent`.
        device: See :class:`WorldModelAgent`.
        verbose: 0 silent, 1 informative.
        tensorboard_log: See :class:`WorldModelAgent`.
    """

    name = "hiql"
    Options = HIQLOptions

    def make_controller(self) -> Controller:
        if "hiql" not in self.heads:
            raise ValueError(
                "HIQL's policy is missing: train it with wm_agents.baselines.train_hiql(dataset), or load it."
            )
        return HIQLController(self.head("hiql", "HIQL"))
