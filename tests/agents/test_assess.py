"""Go or no-go: what an agent says of a task before it takes a step."""

from __future__ import annotations

import dataclasses
import json
import time

import gymnasium as gym
import numpy as np
import pytest
import torch

import wm_agents
from wm_agents import GCIDM, HierarchicalMPC
from wm_agents.agents.assess import BOUNDS, Situation, _judge, measured_options, situation_of
from wm_agents.models import AssessmentConfig, AssessmentHead, InverseDynamics
from wm_agents.models.heads.assessment import FEATURES, thumbnails
from wm_agents.training import learner_of

UMAZE = "wm/PointMaze-UMaze-v0"
FAR = FEATURES.index("log of estimated steps over steps allowed")


def observation(env_id: str = UMAZE, seed: int = 0) -> dict[str, np.ndarray]:
    env = gym.make(env_id)
    seen = env.reset(seed=seed)[0]
    env.close()
    return seen


def calibrated(agent, frames: list[np.ndarray], farthest: float = 4.0) -> AssessmentHead:
    """A head that trusts goals the more, the nearer they are, with these frames as references."""
    images = torch.from_numpy(np.stack(frames))
    options = json.dumps(measured_options(agent))
    size = agent.world_model.spec.feature_size
    head = AssessmentHead(AssessmentConfig(size, len(frames), len(frames), (agent.name,), (options,), 300))
    head.stamp(agent.world_model)
    with torch.no_grad():
        head.latents.copy_(agent.world_model.features(agent.world_model.encode(images)))
    head.pictures.copy_(thumbnails(images).to(torch.uint8))
    head.farthest.fill_(farthest)
    head.weights[0, FAR], head.pace[0, 1], head.longest[0] = -2.0, 1.0, 120.0
    return head


@pytest.fixture
def agent():
    """Knows frames all over its maze."""
    made = wm_agents.load("pointmaze-umaze/gc-idm", device="cpu")
    env = gym.make(UMAZE)
    frames = [env.reset(seed=seed)[0]["pixels"] for seed in range(60)]
    env.close()
    made.heads["assessment"] = calibrated(made, frames)
    return made


def test_without_calibration_nothing_is_claimed():
    bare = wm_agents.load("pointmaze-umaze/gc-idm")
    del bare.heads["assessment"]
    found = bare.assess(observation())
    assert (found.success_probability, found.expected_steps, found.known) == (None, None, False)
    assert "wm-agents calibrate" in found.reason
    assert "unknown" in str(found)


def test_a_usual_task_is_judged_row_by_row_and_quickly(agent):
    seen = observation()
    single = agent.assess(seen)
    assert single.known
    assert BOUNDS[0] <= single.success_probability <= BOUNDS[1]
    assert 1 < single.expected_steps < 300
    rows = agent.assess({key: np.stack([seen[key], observation(seed=1)[key]]) for key in ("pixels", "goal_pixels")})
    assert [one.known for one in rows] == [True, True]
    assert rows[0].success_probability == pytest.approx(single.success_probability, abs=1e-4)
    assert f"{100 * single.success_probability:.0f}%" in str(single)
    took = []
    for _ in range(5):
        began = time.process_time()
        agent.assess(seen)
        took.append(time.process_time() - began)
    assert min(took) < 0.02


def test_less_time_is_less_likely_to_be_enough(agent):
    chances = [agent.assess(observation(), budget).success_probability for budget in (20, 100, None)]
    assert chances == sorted(chances)
    assert chances[0] < chances[2]
    for budget in (0, -5, 2.5, float("nan"), "many"):
        with pytest.raises(ValueError, match="budget must be"):
            agent.assess(observation(), budget)


def test_more_time_than_was_measured_is_no_reason_to_fail(agent):
    head = agent.heads["assessment"]
    head.weights[0, FEATURES.index("square of the first")] = -1.0  # as fitted: it bends down beyond the limit
    head.weights[0, FAR] = -4.0
    within = agent.assess(observation(), head.config.limit)
    for budget in (head.config.limit + 1, 10**4, 10**9):
        assert agent.assess(observation(), budget) == within


def test_no_rows_give_no_assessments(agent):
    none = {key: images[None][:0] for key, images in observation().items()}
    assert agent.assess(none) == []
    agent.heads.pop("assessment")
    assert agent.assess(none) == []


@pytest.mark.parametrize("what", ["goal_pixels", "pixels"])
@pytest.mark.parametrize("odd", ["black", "noise", "wm/PushT-v0", "wm/TwoRoom-v0", "wm/PointMaze-Medium-v0"])
def test_images_from_elsewhere_are_not_known(agent, what, odd):
    seen = observation()
    noise = np.random.default_rng(0).integers(0, 256, seen[what].shape, dtype=np.uint8)
    made = {"black": np.zeros_like(noise), "noise": noise}
    found = agent.assess({**seen, what: made[odd] if odd in made else observation(odd)["pixels"]})
    assert (found.success_probability, found.expected_steps, found.known) == (None, None, False)
    assert "outside the data: the " + ("goal" if what == "goal_pixels" else "current") in found.reason
    assert ("is blank" in found.reason) == (odd == "black")


SHIPPED = {
    "pointmaze-umaze": ("gc-idm", "hierarchical"),
    "tworoom": ("gc-idm", "hierarchical"),
    "pointmaze-medium": ("gc-idm", "hierarchical"),
    "pointmaze-large": ("gc-idm",),
    "reacher": ("gc-idm", "hierarchical"),
    "pusht": ("gc-idm",),
    "cube-single": ("gc-idm", "hierarchical"),
}


@pytest.fixture(scope="module")
def frames() -> dict[str, dict[str, np.ndarray]]:
    """An observation of each task that ships."""
    return {task: observation(wm_agents.load(f"{task}/gc-idm").env_id) for task in SHIPPED}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in SHIPPED.items() for name in names])
def test_shipped_agents_know_their_task_and_nothing_of_other_images(task, name, frames):
    player, seen = wm_agents.load(f"{task}/{name}", device="cpu"), frames[task]
    assert player.assess(seen).known
    same = player.assess({**seen, "goal_pixels": seen["pixels"]})
    assert (same.known, same.expected_steps) == (True, 0)
    plain = {level: np.full_like(seen["pixels"], level) for level in (0, 128, 255)}
    noise = np.random.default_rng(0).integers(0, 256, seen["pixels"].shape, dtype=np.uint8)
    others = [frames[other]["pixels"] for other in SHIPPED if other != task]
    for what in ("pixels", "goal_pixels"):
        for image in (*plain.values(), noise, 255 - seen[what], *others):
            assert not player.assess({**seen, what: image}).known


def test_a_start_that_is_the_goal_takes_no_steps(agent):
    seen = observation()
    found = agent.assess({**seen, "goal_pixels": seen["pixels"]})
    assert found.known
    assert found.expected_steps == 0


def situation(**changes) -> Situation:
    near = {"start": [1.0, 1.0], "goal": [1.0, 1.0]}
    usual = {"steps": 100.0, "distance": 1.0, **near, "reachable": True, "same": False, "beyond": 0.0}
    return Situation(**{name: np.array([value]) for name, value in {**usual, **changes}.items()})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "most goals about 100 steps away.*not reached within 50 steps"),
        ({"steps": 200.0}, "about 200 steps away, and none beyond 120 was ever reached"),
        ({"reachable": False}, "no way to the goal"),
        ({"same": True}, "seldom stays"),
        ({"goal": [9.0, 1.0]}, r"outside the data: the goal image is 2\.2 times"),
        ({"start": [1.0, np.inf]}, "outside the data: the current image is inf"),
        ({"start": [np.nan, 1.0]}, "outside the data: the current image"),
    ],
)
def test_a_low_probability_has_a_reason(agent, changes, reason):
    import re

    found = _judge(agent.heads["assessment"], 0, situation(**changes), 50)[0]
    assert re.search(reason, found.reason)
    assert found.known == ("outside" not in found.reason)
    assert found.success_probability is None or found.success_probability < 0.5


def test_a_high_probability_has_none(agent):
    found = _judge(agent.heads["assessment"], 0, situation(steps=10.0), 300)[0]
    assert found.reason == ""
    assert found.success_probability > 0.9


def test_calibration_is_saved_with_the_agent(agent, tmp_path):
    before = agent.assess(observation())
    agent.save(tmp_path / "agent.safetensors")
    again = wm_agents.load(tmp_path / "agent.safetensors", agent="gc-idm")
    assert again.assess(observation()) == before
    assert again.heads["assessment"].config == agent.heads["assessment"].config


def test_calibration_is_of_one_agent_with_its_options_and_networks(agent, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent.save(path)
    other = wm_agents.load(path, agent="cem").assess(observation())
    assert not other.known
    assert "not calibrated for cem, only for gc-idm" in other.reason
    changed = wm_agents.load(path, agent="gc-idm", horizon=50).assess(observation())
    assert not changed.known
    assert "horizon=50" in changed.reason
    assert wm_agents.load(path, agent="gc-idm", seed=7).assess(observation()).known
    config = agent.heads["assessment"].config
    older = json.dumps({"horizon": measured_options(agent)["horizon"]})  # of a version that had fewer options
    agent.heads["assessment"].config = dataclasses.replace(config, options=(older,))
    assert agent.assess(observation()).known
    network = InverseDynamics(agent.inverse_dynamics.config)
    network.stamp(agent.world_model)
    assert not wm_agents.load(path, agent="gc-idm", heads=[network]).assess(observation()).known
    agent.use(network)
    assert not agent.assess(observation()).known


def test_another_world_models_calibration_is_refused(agent):
    other = wm_agents.load("pointmaze-medium/gc-idm")
    heads = {**other.heads, "assessment": agent.heads["assessment"]}
    with pytest.raises(ValueError, match="assessment head was made on another world model"):
        GCIDM(other.world_model, heads=heads)


def test_the_estimate_of_steps_is_used_where_there_is_one(agent):
    class Estimate(torch.nn.Module):
        def steps(self, z, goal):
            return torch.full((len(z),), 33.0)

        def beyond(self, z, goal):
            return torch.full((len(z),), 0.7)

    agent.heads["steps-to-goal"] = Estimate()
    seen = {key: value[None] for key, value in observation().items()}
    found = situation_of(agent, agent.heads["assessment"], seen["pixels"], seen["goal_pixels"])
    assert (found.steps[0], found.beyond[0]) == (33, pytest.approx(0.7))
    assert found.features(300)[0, FEATURES.index("probability that the goal is beyond any episode")] == found.beyond[0]


def test_no_way_in_the_graph_is_a_reason(agent):
    heads = {name: head for name, head in agent.heads.items() if name != "assessment"}
    planner = HierarchicalMPC(agent.world_model, heads=heads, device="cpu")
    planner.heads["graph"].steps.fill_(torch.inf)
    planner.heads["graph"]._matrix, planner.heads["graph"]._routes = None, {}
    planner.heads["assessment"] = calibrated(planner, [observation(seed=seed)["pixels"] for seed in range(60)])
    found = planner.assess(observation(), 10)
    assert found.known
    assert "no way to the goal" in found.reason


def test_it_reads_the_same_inputs_as_predict(agent):
    with pytest.raises(ValueError, match="goal_pixels"):
        agent.assess({"pixels": observation()["pixels"]})


def test_it_is_fitted_on_runs_and_not_on_data():
    with pytest.raises(ValueError, match="wm-agents calibrate"):
        learner_of("assessment")
