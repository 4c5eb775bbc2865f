"""Goals that the recorded policy was given, among the goals of training pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wm_agents.models import WorldModel
from wm_agents.training.latents import encode_views

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset
    from wm_agents.types import Hindsight


class CommandedGoals:
    """The latents of the goals that the episodes of a dataset were sent to.

    A later frame of an episode is a goal that was reached exactly. A network that sees no other goals corrects the last
    pixel for ever: with the block at its place but for 5 px, Push-T's GC-IDM pushed on and never went to the agent's
    own place. An episode that was sent to a goal ended when it was near enough.

    Args:
        world_model: Encodes the pictures of the goals.
        dataset: The episodes.
        square_symmetry: Encode all eight views.

    Raises:
        ValueError: No episode was sent to a goal and reached it.
    """

    def __init__(self, world_model: WorldModel, dataset: TrajectoryDataset, square_symmetry: bool) -> None:
        self.starts, pictures = dataset.commanded_goals()
        self.latents = encode_views(world_model, pictures, square_symmetry, progress=False)

    def draw(
        self, data: TrajectoryDataset, pairs: Hindsight, fraction: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose pairs whose goal shall be the one that their episode was sent to.

        Args:
            data: The split that the pairs are of.
            pairs: B pairs.
            fraction: Share that is chosen, among the pairs in episodes with such a goal.
            rng: Source of randomness.

        Returns:
            The chosen pairs, int64 ``[C]``; the rows of their goals in ``latents``, int64 ``[C]``; and the steps that
            are left until their episodes end, int64 ``[C]``.
        """
        episode = data.episode_of(pairs.frame)
        row = np.minimum(np.searchsorted(self.starts, data.starts[episode]), len(self.starts) - 1)
        sent = (self.starts[row] == data.starts[episode]) & (rng.random(len(row)) < fraction)
        ends = data.starts[episode] + data.lengths[episode]
        return np.flatnonzero(sent), row[sent], (ends - pairs.frame)[sent]
