"""Steps to the goal: a distribution that a quantile is read from, and what it learns on a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.datasets import TrajectoryDataset
from wm_agents.models import StepsToGoal, StepsToGoalConfig
from wm_agents.training.steps_to_goal import StepsToGoalLearner, StepsToGoalTrainingConfig


@pytest.fixture
def head() -> StepsToGoal:
    torch.manual_seed(0)
    return StepsToGoal(StepsToGoalConfig(latent_size=3, width=16, max_steps=60, bins=6)).eval()


def test_ranges_are_narrow_near_the_goal_and_end_at_the_largest_distance(head: StepsToGoal) -> None:
    widths = head.edges.diff()
    assert head.edges[0] == 0
    assert head.edges[-1] == pytest.approx(60, rel=1e-5)
    assert (widths.diff() > 0).all()
    assert head.range_of(torch.tensor([0, 1, 60, 61, 500])).tolist()[0] == 0
    assert head.range_of(torch.tensor([61, 500])).tolist() == [6, 6], "beyond"
    assert head.range_of(torch.tensor([59])).tolist() == [5]


def test_the_quantile_is_that_of_the_distribution(head: StepsToGoal) -> None:
    z, goal = torch.randn(500, 3), torch.randn(500, 3)
    share = head(z, goal)[:, :-1].softmax(-1).detach()
    low, middle, high = (head.steps(z, goal, quantile).detach() for quantile in (0.1, 0.5, 0.9))
    assert (low < middle).all()
    assert (middle < high).all()
    assert low.min() >= 0
    assert high.max() <= 60.001
    for row in range(20):  # the mass below the answer, by hand
        edges, mass = head.edges, share[row]
        part = ((middle[row] - edges[:-1]) / edges.diff()).clamp(0, 1)
        assert float((part * mass).sum()) == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(head.steps(z, goal), head.steps(z, goal, head.config.quantile))


def test_shapes_broadcast(head: StepsToGoal) -> None:
    z, goal = torch.randn(4, 5, 3), torch.randn(4, 1, 3)
    assert head.steps(z, goal).shape == (4, 5)
    assert head.beyond(z, goal).shape == (4, 5)
    assert ((head.beyond(z, goal) > 0) & (head.beyond(z, goal) < 1)).all()


@pytest.mark.parametrize(("field", "value"), [("quantile", 0.0), ("quantile", 1.0), ("bins", 0), ("max_steps", -1)])
def test_bad_shapes_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        StepsToGoalConfig(**{field: value})


def line(episodes: int = 40, steps: int = 50) -> tuple[TrajectoryDataset, torch.Tensor]:
    """Episodes that walk along a line of their own, a step of 0.1 each time, and their latents."""
    frames = steps + 1
    starts = np.arange(episodes) * frames
    way = np.arange(frames) * 0.1
    latents = np.concatenate([np.stack([way, np.full(frames, float(e % 4))], axis=1) for e in range(episodes)])
    empty: dict[str, Any] = {"action_low": np.zeros(1), "action_high": np.ones(1), "state_names": (), "provenance": {}}
    data = TrajectoryDataset(
        name="line", env_id="", pixels=np.zeros((len(latents), 1, 1, 3), np.uint8),
        actions=np.zeros((len(latents), 1), np.float32), states=np.zeros((len(latents), 0)), starts=starts,
        lengths=np.full(episodes, steps), episode_ids=np.arange(episodes), **empty,
    )  # fmt: skip
    return data, torch.from_numpy(latents.astype(np.float32))


def learner(**options: Any) -> StepsToGoalLearner:
    """A learner on the line, without a world model: nothing is imagined."""
    data, latents = line()
    made: Any = object.__new__(StepsToGoalLearner)
    made.config = StepsToGoalTrainingConfig(imagined_fraction=0.0, **options)
    made.model = StepsToGoalConfig(latent_size=2, width=64, max_steps=40, bins=16)
    made.latents, made.world_model, made.dataset = latents, SimpleNamespace(), data
    torch.manual_seed(0)
    made.module = StepsToGoal(made.model)
    return made


def test_pairs_are_of_one_episode_or_beyond() -> None:
    one = learner(beyond_fraction=0.3)
    frame, goal, steps = one._pairs(one.dataset, 4000, np.random.default_rng(0))
    together = one.dataset.episode_of(frame) == one.dataset.episode_of(goal)
    later = together & (goal >= frame)
    np.testing.assert_array_equal(steps[later], (goal - frame)[later])
    assert (steps[~later] == 41).all()
    assert 0.2 < (~together).mean() < 0.4
    near = steps[later]
    assert (near <= 3).mean() > 0.2, "near goals are shown often"
    assert (near > 20).mean() > 0.1, "and far ones too"


def test_it_learns_the_steps_on_a_line_and_what_is_beyond() -> None:
    one = learner()
    rng, generator = np.random.default_rng(0), torch.Generator()
    optimiser = torch.optim.AdamW(one.module.parameters(), 3e-3)
    for _ in range(400):
        optimiser.zero_grad()
        one.loss(one.dataset, 256, rng, generator)[0].backward()
        optimiser.step()
    head: Any = one.module.eval()
    with torch.no_grad():
        start = torch.zeros(3, 2)
        goal = torch.tensor([[0.5, 0.0], [2.0, 0.0], [3.5, 0.0]])
        assert head.steps(start, goal, 0.5).tolist() == pytest.approx([5, 20, 35], rel=0.25)
        assert head.beyond(start, goal).max() < 0.5
        assert head.beyond(start, goal + torch.tensor([0.0, 2.0])).min() > 0.9, "another line"
        assert head.beyond(goal[2:], start[2:]).item() > 0.9, "nobody walks back"
