"""What the agents do with their plans, bounds and horizons, and how they answer bad input."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from wm_agents import CEMMPC, GCIDM
from wm_agents.agents import WorldModelAgent
from wm_agents.checkpoint import CheckpointError

pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
CHEAP: dict[str, Any] = {"samples": 24, "elites": 6, "iterations": 2, "horizon": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def episode() -> list[dict[str, np.ndarray]]:
    """24 consecutive observations of one environment under random actions."""
    env = gym.make(UMAZE)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    recorded = []
    for _ in range(24):
        recorded.append(observation)
        observation = env.step(env.action_space.sample())[0]
    env.close()
    return recorded


@pytest.fixture(params=["cem-mpc", "gc-idm"])
def agent(request: pytest.FixtureRequest, trained: Any) -> WorldModelAgent:
    if request.param == "cem-mpc":
        return CEMMPC(trained.world_model, **CHEAP)
    return GCIDM(trained.world_model, inverse_dynamics=trained.agent.inverse_dynamics, device="cpu")


# CEM-MPC.


@pytest.mark.parametrize("receding", [1, 2, 4])
def test_it_replans_after_the_receding_horizon_and_executes_blocks_in_order(
    receding: int, trained: Any, episode: Any
) -> None:
    agent = CEMMPC(trained.world_model, **CHEAP, receding_horizon=receding)
    state, due = None, 5 * receding
    for time, observation in enumerate(episode):
        action, state = agent.predict(observation, state=state)
        decision = agent.last_decision
        assert decision.plans == (1 if time % due == 0 else 0)
        assert decision.evaluations == ((24 * 2 + 1) * 4 if decision.plans else 0)
        if time % due == 0:
            plan = trained.world_model.denormalize(torch.from_numpy(state["own.plan"])).numpy().reshape(-1, 2)
        np.testing.assert_allclose(action, plan[time % due], atol=1e-6)
        assert state["own.step"].tolist() == [time % due + 1]
        assert state["own.model.seen"].tolist() == [min(2, time // 5 + 1)]
    assert np.ptp(plan, axis=0).min() > 0, "a block is different actions, not one repeated"


def test_history_is_the_latents_of_block_boundaries_and_the_blocks_between(trained: Any, episode: Any) -> None:
    agent = CEMMPC(trained.world_model, **CHEAP)
    state, executed = None, []
    for observation in episode[:11]:
        action, state = agent.predict(observation, state=state)
        executed.append(action)
    frames = torch.from_numpy(np.stack([episode[5]["pixels"], episode[10]["pixels"]]))
    np.testing.assert_allclose(state["own.model.latents"][0], trained.world_model.encode(frames).numpy(), atol=1e-5)
    between = trained.world_model.denormalize(torch.from_numpy(state["own.model.blocks"][0, 0])).numpy().reshape(5, 2)
    np.testing.assert_allclose(between, executed[5:10], atol=1e-6)


def test_plans_start_from_the_shifted_last_plan(trained: Any, episode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = CEMMPC(trained.world_model, **CHEAP, receding_horizon=2)
    starts: list[np.ndarray] = []
    controller: Any = agent.policy.controller
    plan = controller._plan

    def spy(frames: Any, memory: Any, rows: Any, start: torch.Tensor) -> Any:
        starts.append(start.numpy().copy())
        return plan(frames, memory, rows, start)

    monkeypatch.setattr(controller, "_plan", spy)
    state, plans = None, []
    for observation in episode[:11]:
        _, state = agent.predict(observation, state=state)
        plans.append(state["own.plan"].copy())
    assert not starts[0].any()
    np.testing.assert_array_equal(starts[1][0], plans[0][0][:, [2, 3, 3, 3]])


def test_the_search_lowers_the_cost_and_its_seed_matters(trained: Any, episode: Any) -> None:
    def cost(agent: CEMMPC) -> float:
        _, state = agent.predict(episode[0])
        z = trained.world_model.encode(torch.from_numpy(episode[0]["pixels"][None]))
        goal = torch.from_numpy(state["goal"])
        now = trained.world_model.remember(z[:, None], torch.zeros(1, 0, 10))
        rollout = trained.world_model.imagine(now, torch.from_numpy(state["own.plan"]))
        return float((rollout[:, 0] - goal[:, None]).square().sum(-1).mean())

    few = cost(CEMMPC(trained.world_model, **{**CHEAP, "samples": 6, "elites": 6, "iterations": 1}))
    many = cost(CEMMPC(trained.world_model, **{**CHEAP, "samples": 200, "elites": 20, "iterations": 8}))
    assert many < few
    one, other = (CEMMPC(trained.world_model, **CHEAP, seed=seed).predict(episode[0])[0] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_objectives_differ(trained: Any, episode: Any) -> None:
    summed, terminal = (
        CEMMPC(trained.world_model, **CHEAP, objective=name).predict(episode[0])[0] for name in ("summed", "terminal")
    )
    assert not np.array_equal(summed, terminal)


# GC-IDM.


def test_actions_of_the_network_are_clipped_to_the_bounds(trained: Any, episode: Any) -> None:
    network = copy.deepcopy(trained.agent.inverse_dynamics)
    network.head.bias.data = torch.tensor([50.0, -50.0])
    agent = GCIDM(trained.world_model, inverse_dynamics=network, device="cpu")
    action, _ = agent.predict(episode[0])
    np.testing.assert_array_equal(action, [1.0, -1.0])


def test_horizon_and_countdown_reach_the_network(trained: Any, episode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = trained.agent.inverse_dynamics, []

    def remaining(**options: Any) -> list[int]:
        agent = GCIDM(trained.world_model, inverse_dynamics=network, device="cpu", **options)
        handle = network.register_forward_pre_hook(lambda _, inputs: asked.append(int(inputs[3][0])))
        asked.clear()
        state = None
        for observation in episode[:4]:
            _, state = agent.predict(observation, state=state)
        handle.remove()
        return list(asked)

    assert remaining() == [0] * 4, "0 tells the network that the distance is unknown"
    assert remaining(horizon=7) == [7] * 4
    assert remaining(horizon=3, countdown=True) == [3, 2, 1, 1]


def test_the_network_sees_the_latent_of_lag_steps_ago(trained: Any, episode: Any) -> None:
    network, seen = trained.agent.inverse_dynamics, []
    lag = network.config.lag
    agent = GCIDM(trained.world_model, inverse_dynamics=network, device="cpu")
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0][0], inputs[1][0])))
    state = None
    for observation in episode[: lag + 3]:
        _, state = agent.predict(observation, state=state)
    handle.remove()
    for time, (now, before) in enumerate(seen):
        torch.testing.assert_close(before, seen[max(0, time - lag)][0])
        torch.testing.assert_close(now, trained.world_model.encode(torch.from_numpy(episode[time]["pixels"])))


def test_every_decision_is_counted_and_no_world_model_is_rolled_out(agent: WorldModelAgent, episode: Any) -> None:
    assert agent.last_decision is None
    agent.predict(episode[0])
    decision = agent.last_decision
    assert decision.plans == 1
    assert decision.encode_ms > 0
    assert decision.plan_ms > 0
    assert (decision.evaluations > 0) == isinstance(agent, CEMMPC)


# Bad observations and states.


def test_bad_observations_are_named(agent: WorldModelAgent, episode: Any) -> None:
    good = episode[0]
    image = good["pixels"]
    cases: list[tuple[Any, str]] = [
        ((good, {}), r"observation is a tuple.*\(obs, info\)"),
        ({"pixels": image}, r"must be a dict with 'pixels' and 'goal_pixels', not \['pixels'\]"),
        ({"observation": np.zeros(4), "achieved_goal": np.zeros(2), "desired_goal": np.zeros(2)}, 'obs_type="pixels"'),
        (image, "must be a dict.*not ndarray"),
        (None, "must be a dict.*not NoneType"),
        (
            {**good, "pixels": image / np.float32(255)},
            r"observation\['pixels'\] must be uint8 in 0\.\.255, not float32",
        ),
        ({**good, "goal_pixels": image.astype(np.int64)}, r"observation\['goal_pixels'\] must be uint8"),
        ({**good, "pixels": image[:32, :32]}, r"shape \(32, 32, 3\).*image_size=64"),
        ({**good, "pixels": image[..., :1]}, r"shape \(64, 64, 1\)"),
        ({**good, "pixels": image[None, None]}, r"shape \(1, 1, 64, 64, 3\)"),
        ({**good, "pixels": image[None]}, "differ in shape"),
        ({"pixels": np.stack([image] * 2), "goal_pixels": np.stack([image] * 3)}, "differ in shape"),
    ]
    for observation, message in cases:
        with pytest.raises(ValueError, match=message):
            agent.predict(observation)


def test_a_state_that_does_not_fit_is_refused(agent: WorldModelAgent, trained: Any, episode: Any) -> None:
    batch = {key: np.stack([value] * 2) for key, value in episode[0].items()}
    _, of_two = agent.predict(batch)
    other = GCIDM if isinstance(agent, CEMMPC) else CEMMPC
    stranger = other.from_checkpoint(trained.agent.checkpoint(), device="cpu")
    for state in (of_two, (), (np.zeros(1),), stranger.predict(episode[0])[1], np.zeros((1, 3)), [[0.0]] * len(of_two)):
        with pytest.raises(ValueError, match="state does not belong to this agent with 1 environments"):
            agent.predict(episode[0], state=state)
    with pytest.raises(ValueError, match="episode_start"):
        agent.predict(batch, state=of_two, episode_start=np.zeros(3, dtype=bool))


# Bad environments.


class Resized(gym.ActionWrapper):
    def __init__(self, env: gym.Env, space: spaces.Space) -> None:
        super().__init__(env)
        self.action_space = space


@pytest.mark.parametrize("how", ["constructor", "set_env", "load"])
def test_environments_that_do_not_fit_are_refused(how: str, trained: Any, tmp_path: Path) -> None:
    def give(env: gym.Env) -> None:
        if how == "constructor":
            GCIDM(trained.world_model, env, device="cpu")
        elif how == "load":
            GCIDM.load(trained.file, env=env, device="cpu")
        else:
            GCIDM(trained.world_model, device="cpu").set_env(env)

    box = spaces.Box
    cases = [
        (Resized(gym.make(UMAZE), box(-1, 1, (5,), np.float32)), r"action space is Box.*trained with actions of shape"),
        (Resized(gym.make(UMAZE), spaces.Discrete(4)), r"action space is Discrete\(4\)"),
        (gym.wrappers.RescaleAction(gym.make(UMAZE), np.float32(-2), np.float32(2)), r"action bounds are \[-2"),
        (gym.make(UMAZE, obs_type="state"), r"observations are \[.*desired_goal.*obs_type=\"pixels\""),
        (gym.make(UMAZE, image_size=32), r"images are \(32, 32, 3\).*image_size=64"),
        (gym.make("CartPole-v1"), "action space is Discrete"),
        (gym.make("Pendulum-v1"), "action space is Box"),
    ]
    for env, message in cases:
        with pytest.raises(ValueError, match=message):
            give(env)
        env.close()
    give(gym.make("wm/PointMaze-Medium-v0"))


# Bad options.


def test_impossible_options_are_refused(trained: Any) -> None:
    model = trained.world_model
    cases: list[tuple[Any, str]] = [
        (
            lambda: CEMMPC(model, horizon=3, receding_horizon=4),
            r"receding_horizon must lie in 1\.\.horizon \(3 blocks\)",
        ),
        (lambda: CEMMPC(model, receding_horizon=0), "receding_horizon must be a whole number"),
        (lambda: CEMMPC(model, samples=10, elites=11), r"elites \(11\) must not exceed samples \(10\)"),
        (lambda: CEMMPC(model, iterations=0), "iterations must be a whole number of at least 1"),
        (lambda: CEMMPC(model, objective="sumed"), r"Unknown objective 'sumed'\. Did you mean 'summed'"),
        (lambda: GCIDM(model, horizon=0), "horizon must be a whole number of at least 1"),
        (lambda: GCIDM(model, countdown=True), "countdown needs a horizon"),
        (lambda: GCIDM(None), "must be a WorldModel, not NoneType"),
        (lambda: CEMMPC("pointmaze-umaze"), "must be a WorldModel, not str"),
    ]
    for build, message in cases:
        with pytest.raises(ValueError, match=message):
            build()


def test_an_unfitted_gc_idm_says_so(trained: Any, episode: Any, tmp_path: Path) -> None:
    agent = GCIDM(trained.world_model, device="cpu")
    with pytest.raises(ValueError, match=r"call agent\.fit\(dataset\) first"):
        agent.predict(episode[0])
    agent.save(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="no inverse dynamics model: fit one first"):
        GCIDM.load(tmp_path / "bare")
    assert isinstance(CEMMPC.load(tmp_path / "bare", device="cpu").predict(episode[0])[0], np.ndarray)


def test_a_diverged_world_model_is_an_error_not_an_action(trained: Any, episode: Any) -> None:
    broken = copy.deepcopy(trained.world_model)
    with torch.no_grad():
        next(broken.projector.parameters()).fill_(float("nan"))
    for build in (
        lambda: CEMMPC(broken, **CHEAP),
        lambda: GCIDM(broken, inverse_dynamics=trained.agent.inverse_dynamics, device="cpu"),
    ):
        with pytest.raises(ValueError, match="NaN or infinite"):
            build().predict(episode[0])
