"""Protocols: how far goals are, how long an agent has, and which seed draws the tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from wm_agents.evaluation.tasks import HELD_OUT_SEEDS

ANY_GOAL = {"any": HELD_OUT_SEEDS[0], "any-2": HELD_OUT_SEEDS[1]}
"""Random starts and goals within the environment's own step limit, nothing told: two sets of tasks, by their seeds."""
PROTOCOLS = (*ANY_GOAL, "25/50", "50/100", "100/200")
"""Any goal; then environment steps from start to goal, and steps allowed: the papers' protocol, twice and four times
as far."""
SEED = 0
"""Of the tasks of the other protocols, of the random floor and of the agents' own randomness."""


@dataclass(frozen=True)
class Protocol:
    """How far goals are and how long an agent has, in environment steps; ``offset`` may be "random".

    Attributes:
        offset: Environment steps from start to goal.
        budget: Environment steps allowed; 0 is the environment's own limit, see :meth:`within`.
        seed: Of the tasks.
        label: Its name, where that is not made of the numbers.
    """

    offset: int | Literal["random"]
    budget: int
    seed: int = SEED
    label: str = ""

    @property
    def name(self) -> str:
        """As it is written, "25/50" or "any"."""
        return self.label or f"{self.offset}/{self.budget}"

    def within(self, limit: int) -> Protocol:
        """Return the protocol for an environment with this step limit."""
        return self if self.budget else replace(self, budget=limit)

    @classmethod
    def parse(cls, text: str) -> Protocol:
        """Read "any", "any-2", "25/50" or "random/300".

        Raises:
            ValueError: The text is something else.
        """
        if text in ANY_GOAL:
            return cls("random", 0, ANY_GOAL[text], text)
        found = re.fullmatch(r"(\d+|random)/(\d+)", text)
        if not found or "0" in (found[1], found[2]):
            raise ValueError(
                f'a protocol is OFFSET/BUDGET in environment steps, "25/50" or "random/300", or "any" or "any-2", '
                f"not {text!r}."
            )
        return cls("random" if found[1] == "random" else int(found[1]), int(found[2]))


def title_of(protocol: str, budget: int) -> str:
    """A protocol's name in words where it has no numbers: "any goal, 300 steps"."""
    second = ", second set" if protocol == "any-2" else ""
    return f"any goal, {budget} steps{second}" if protocol in ANY_GOAL else protocol
