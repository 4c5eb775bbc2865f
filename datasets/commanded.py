"""Goals that recorded episodes were sent to, in contrast to frames that they happen to reach."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.configs import bare_id
from wm_agents.datasets.episodes import open_env

if TYPE_CHECKING:
    from wm_agents.datasets.dataset import TrajectoryDataset


def commanded_goals(dataset: TrajectoryDataset) -> tuple[np.ndarray, TrajectoryDataset]:
    """See :meth:`wm_agents.datasets.TrajectoryDataset.commanded_goals`."""
    sent = _single_goals(dataset) if bare_id(dataset.env_id).startswith("wm/") else {}
    reached, pictures = [], []
    if sent:
        with contextlib.closing(open_env(dataset.env_id, dataset.pixels.shape[1])) as env:
            task: Any = env.unwrapped
            for episode, goal in sent.items():
                end = dataset.states[dataset.starts[episode] + dataset.lengths[episode]]
                if task.successes(end, goal)["moderate"]:
                    reached.append(episode)
                    pictures.append(task.render_state(goal))
    if not reached:
        raise ValueError(
            f"no episode of {dataset.name} was sent to a goal and reached it: leave commanded at 0, or collect with a "
            "policy that is sent to goals, such as 'arrange' in PushT, and with enough steps to get there."
        )
    count = len(reached)
    shown = replace(
        dataset,
        name=f"goals of {dataset.name}",
        pixels=np.stack(pictures),
        actions=np.zeros((count, dataset.actions.shape[1]), np.float32),
        states=np.stack([sent[episode] for episode in reached]),
        goal_states=None,
        starts=np.arange(count),
        lengths=np.zeros(count, np.int64),
        episode_ids=np.arange(count),
    )
    return dataset.starts[reached], shown


def _single_goals(dataset: TrajectoryDataset) -> dict[int, np.ndarray]:
    """Return the goal ``[S]`` of each episode that had the same one at all of its frames."""
    goals = dataset.goal_states
    if goals is None or goals.shape != dataset.states.shape or not goals.size:
        return {}
    found: dict[int, np.ndarray] = {}
    for episode, (first, steps) in enumerate(zip(dataset.starts, dataset.lengths, strict=True)):
        rows = goals[first : first + steps + 1]
        if np.isfinite(rows[0]).all() and (rows == rows[0]).all():
            found[episode] = rows[0]
    return found
