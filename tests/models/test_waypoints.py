"""Waypoints: what is sampled, how it is trained, and the easiest of many chains as a high level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import wm_agents
from wm_agents import evaluation
from wm_agents.agents import HierarchicalMPC
from wm_agents.agents.subgoals import WaypointSubgoals
from wm_agents.models import Waypoints, WaypointsConfig
from wm_agents.training import GraphConfig, WaypointsTrainingConfig, fit_graph, train_waypoints
from wm_agents.types import LatentSpec

pytest_plugins = ["trained"]
UMAZE = "wm/PointMaze-UMaze-v0"
SMALL = WaypointsConfig(latent_size=2, stride=10, max_horizon=40, width=16, depth=1)


@pytest.fixture
def make_agent(trained: Any) -> Any:
    torch.manual_seed(0)
    waypoints = Waypoints(WaypointsConfig(latent_size=32, stride=10, max_horizon=40, width=16, depth=1)).eval()
    waypoints.stamp(trained.world_model)
    parts = {"waypoints": waypoints, "gc_idm": trained.agent.heads["gc-idm"], "device": "cpu"}
    defaults = {"high": "waypoints", "horizon": 25, "chains": 4, "replan_every": 10}
    return lambda **options: HierarchicalMPC(trained.world_model, **{**parts, **defaults, **options})


# The model.


def test_sampling_follows_the_velocity_from_noise_to_the_waypoint(monkeypatch: pytest.MonkeyPatch) -> None:
    model, target, seen = Waypoints(SMALL), torch.randn(3, 2), []

    def straight(x: torch.Tensor, time: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.append(float(time[0]))
        return (target - x) / (1 - time.unsqueeze(1))

    monkeypatch.setattr(model, "forward", straight)
    sampled = model.sample(torch.randn(3, 2), torch.zeros(3, 2), torch.zeros(3, 2), torch.full((3,), 20.0))
    torch.testing.assert_close(sampled, target)
    assert seen == sorted(set(seen))
    assert (seen[0], len(seen)) == (0.0, 20)


def test_distances_beyond_the_trained_ones_are_clamped() -> None:
    model, x = Waypoints(SMALL).eval(), torch.randn(4, 2)
    args = (x, torch.rand(4), torch.randn(4, 2), torch.randn(4, 2))
    torch.testing.assert_close(model(*args, torch.full((4,), 40.0)), model(*args, torch.full((4,), 400.0)))
    assert not torch.allclose(model(*args, torch.full((4,), 40.0)), model(*args, torch.full((4,), 20.0)))


# Training.


def test_training_learns_to_sample_what_lay_a_stride_ahead(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    shape = WaypointsConfig(stride=15, max_horizon=60, width=64, depth=2)
    training = WaypointsTrainingConfig(steps=400, batch_size=256, evaluate_every=200)

    def train() -> Any:
        return train_waypoints(trained.world_model, small_dataset, shape, training, run_dir=tmp_path, progress=False)

    model, history = train()
    assert (model.config.latent_size, model.training) == (32, False)
    assert history["validation/waypoints"][-1][1] < 1.5, "an untrained network's loss is 2: noise and latent, squared"
    again, _ = train()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), "a finished run is not trained further"

    held_out = small_dataset.split(0.1)[1]
    pairs = held_out.hindsight(300, 60, np.random.default_rng(1), min_horizon=16)
    assert (pairs.steps.min(), pairs.steps.max()) == (16, 60)
    z, true, goal = (
        trained.world_model.encode(torch.from_numpy(small_dataset.pixels[frame]))
        for frame in (pairs.frame, pairs.frame + 15, pairs.goal)
    )
    torch.manual_seed(0)
    steps = torch.from_numpy(pairs.steps).float()
    sampled = model.sample(torch.randn(300, 32), z, goal, steps)
    strangers = true[torch.randperm(300)]
    miss, usual = ((guess - true).square().sum(1).mean() for guess in (sampled, strangers))
    assert miss < 0.7 * usual, "a sample lies nearer to what followed than any other recorded frame"
    assert 0.6 < float(sampled.std() / true.std()) < 1.4, "samples are as spread out as latents are"


def test_episodes_that_end_within_the_stride_are_refused(trained: Any, small_dataset: Any) -> None:
    with pytest.raises(
        ValueError, match=r"beyond a stride of 100 steps, 101 actions, but the longest episode .* has 100"
    ):
        train_waypoints(trained.world_model, small_dataset, WaypointsConfig(stride=100), progress=False)
    with pytest.raises(ValueError, match="holds a goal 101 steps ahead"):
        small_dataset.hindsight(4, 120, np.random.default_rng(0), min_horizon=101)


# The high level.


class Known(WaypointSubgoals):
    """Chains whose waypoints are the noise itself, and whose legs are as hard as they are long."""

    def __init__(self, chains: int) -> None:
        waypoints = Waypoints(SMALL)
        waypoints.sample = lambda noise, z, goal, steps: noise  # type: ignore[method-assign]
        world_model: Any = type("World", (), {"spec": LatentSpec((2,), 64, 2, 5)})
        super().__init__(waypoints, world_model, None, chains)  # type: ignore[arg-type]
        self.legs: list[int] = []

    def _miss(self, z: torch.Tensor, there: torch.Tensor, blocks: int) -> torch.Tensor:
        self.legs.append(blocks)
        return (z - there).square().sum(dim=1)


def test_the_subgoal_begins_the_easiest_chain() -> None:
    high, z, goal = Known(50), torch.tensor([[2.0, 0.0], [0.0, -1.0]]), torch.tensor([[-2.0, 0.0], [0.0, 1.0]])
    found = high.propose(z, goal, np.array([27, 27], np.float32), 3)
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(50, 2, generator=generator) for _ in range(2))
    for row in range(2):
        legs = ((z[row], first), (first, second), (second, goal[row]))
        length = sum((b - a).square().sum(1) for a, b in legs)
        torch.testing.assert_close(found.latents[row], first[length.argmin()])
    assert high.legs == [2, 2, 1]  # 10, 10 and 7 steps in blocks of 5
    assert found.evaluations == 2 * 50 * 2 * (2 + 2 + 1)
    assert (found.node.tolist(), found.steps.tolist()) == ([-2, -2], [10, 10])
    assert torch.isinf(high.steps(z, goal)).all()


def test_with_a_stride_or_less_left_the_goal_is_the_subgoal() -> None:
    high, z, goal = Known(3), torch.zeros(5, 2), torch.ones(5, 2)
    found = high.propose(z, goal, np.array([10, 11, 4, 0, -30], np.float32), 0)
    assert found.node.tolist() == [-1, -2, -1, -1, -1]
    assert found.steps.tolist() == [10, 10, 4, 10, 10]
    rest = [0, 2, 3, 4]
    torch.testing.assert_close(found.latents[rest], goal[rest])
    assert high.legs == [2, 1]


def test_no_environment_changes_what_another_is_told() -> None:
    z, goal, left = torch.randn(4, 2), torch.randn(4, 2), np.array([35, 22, 35, 8], np.float32)
    together = Known(20).propose(z, goal, left, 1).latents
    for row in range(4):
        alone = Known(20).propose(z[row : row + 1], goal[row : row + 1], left[row : row + 1], 1).latents
        torch.testing.assert_close(alone[0], together[row])


# The agent.


def test_the_clock_runs_from_the_goal_to_the_last_stride(make_agent: Any, trained: Any, small_dataset: Any) -> None:
    graph = fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=30, support=1), progress=False)
    agent, state, nodes = make_agent(graph=graph), None, []
    env = gym.make(UMAZE)
    observation, _ = env.reset(seed=0)
    for _ in range(35):
        action, state = agent.predict(observation, state=state)
        nodes.append(int(agent.last_subgoal.node[0]))
        shown = agent.last_subgoal.states[0]
        nearest = tuple(shown) in set(map(tuple, graph.states.numpy()))
        assert np.isnan(shown).all() if nodes[-1] == -1 else nearest, "pictures show the node nearest to a waypoint"
        observation = env.step(action)[0]
    assert nodes == [-2] * 20 + [-1] * 15  # due at 0, 10, 20: with 25 and 15 steps left, then 5
    other = {**observation, "goal_pixels": np.roll(observation["goal_pixels"], 9, axis=0)}
    agent.predict(other, state=state)
    assert agent.last_subgoal.node[0] == -2, "a new goal winds the clock up"
    env.close()


def test_it_is_evaluated_and_saved(make_agent: Any, tmp_path: Path) -> None:
    agent = make_agent(chains=5)
    manifest = evaluation.make_manifest(UMAZE, tasks=3, offset="random", budget=30, seed=5)
    result = evaluation.evaluate(agent, manifest, num_envs=2, progress=False)
    steps = np.where(result.outcomes.moderate > 0, result.outcomes.moderate, 30)
    due = int(np.ceil(steps / 10).sum())  # at 0, 10 and 20, while the task lasts
    assert result.to_dict()["subgoals"] == {"proposed": due, "reached": 0, "overdue": 0, "detours": 0}
    agent.save(tmp_path / "agent.safetensors")
    again = wm_agents.load(tmp_path / "agent.safetensors", device="cpu")
    assert (again.settings.high, again.settings.horizon, again.settings.chains) == ("waypoints", 25, 5)
    env = gym.make(UMAZE)
    observation, _ = env.reset(seed=1)
    np.testing.assert_array_equal(again.predict(observation)[0], agent.predict(observation)[0])
    env.close()


def test_bad_input_is_refused(make_agent: Any, trained: Any) -> None:
    for options, message in (
        ({"horizon": None}, "needs horizon=, the environment steps in which to reach a goal"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1"),
        ({"chains": 0}, "chains must be a whole number of at least 1"),
        ({"waypoints": None}, "needs the head 'waypoints': make one"),
        ({"gc_idm": None}, "needs the head 'gc-idm'"),
        ({"high_options": {"samples": 3}}, "are a planner's"),
        ({"high": "waypoint"}, "Did you mean 'waypoints'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_agent(**options)
    stranger = make_agent().heads["waypoints"]
    stranger.fingerprint.add_(1.0)
    with pytest.raises(ValueError, match="waypoints head was made on another world model"):
        make_agent(waypoints=stranger)


def test_rounded_weights_are_no_other_world_model(make_agent: Any) -> None:
    head = make_agent().heads["waypoints"]
    head.fingerprint.add_(0.01 * head.fingerprint.norm() / head.fingerprint.numel() ** 0.5)
    assert make_agent(waypoints=head).heads["waypoints"] is head
