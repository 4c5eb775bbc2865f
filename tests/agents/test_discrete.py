"""Discrete actions, from recording to acting: one-hot data, categorical planning, whole numbers in the end."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from dot_env import Dot
from gymnasium import spaces

import wm_agents
from wm_agents import datasets, evaluation
from wm_agents.envs import register_wrapped
from wm_agents.models import LeWMConfig
from wm_agents.planning import make
from wm_agents.planning.categorical import CategoricalCEM
from wm_agents.registry import DISCRETE_PLANNERS
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

SPACES = {"steps": spaces.Discrete(4), "pair": spaces.MultiDiscrete([3, 3])}
SHORT = TrainingConfig(steps=6, batch_size=8, evaluate_every=6)


@pytest.fixture(params=SPACES, scope="module")
def made(request, tmp_path_factory):
    """Data of an environment with discrete actions, and an agent that has hardly learnt from them."""
    space = SPACES[request.param]
    env_id = f"dots/{request.param}-v0"
    register_wrapped(env_id, functools.partial(Dot, render_mode="rgb_array", actions=space), image_size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("data")))
        data = datasets.collect(
            env_id, episodes=6, steps=30, image_size=32, name=f"dots/{request.param}-v0", workers=1, progress=False
        )
    model, _ = wm_agents.train_world_model(data, LeWMConfig(action_block=2), SHORT, progress=False)
    agent = wm_agents.GCIDM(model, seed=0)
    agent.fit(data, training=InverseDynamicsTrainingConfig(steps=6, batch_size=32, evaluate_every=6))
    return env_id, space, data, agent


def test_actions_are_one_hot_vectors(made):
    _, space, data, _ = made
    choices = (4,) if isinstance(space, spaces.Discrete) else (3, 3)
    assert data.choices == choices
    assert data.actions.shape[1] == sum(choices)
    taken = data.actions[data.frame_indices()[:-1]]
    taken = taken[taken.any(axis=1)]
    assert set(np.unique(taken)) == {0.0, 1.0}
    assert (taken.sum(axis=1) == len(choices)).all()


def test_agents_return_actions_of_the_space(made):
    env_id, space, _, agent = made
    env = wm_agents.envs.wrapping.open_task(env_id, image_size=32)
    observation, _ = env.reset(seed=0)
    search = wm_agents.MPC(agent.world_model, horizon=3, samples=20, elites=4, iterations=2)
    for player in (agent, search):
        assert player.action_space == space
        action, _ = player.predict(observation)
        assert space.contains(int(action) if action.ndim == 0 else action)
        env.step(action)
        batch = {key: np.stack([value, value]) for key, value in observation.items()}
        assert player.predict(batch)[0].shape == (2, *space.shape)


def test_they_are_saved_evaluated_and_fit_their_environment(made, tmp_path):
    env_id, space, _, agent = made
    agent.save(tmp_path / "agent.safetensors")
    loaded = wm_agents.load(tmp_path / "agent.safetensors")
    assert loaded.action_space == space
    tasks = evaluation.make_manifest(env_id, tasks=3, offset="random", budget=5)
    result = evaluation.evaluate(loaded, tasks, num_envs=2, progress=False)
    assert result.floors.keys() == {"random", "noop"}
    search = wm_agents.load(tmp_path / "agent.safetensors", agent="cem", horizon=2, samples=10, elites=2, iterations=1)
    assert evaluation.evaluate(search, tasks, progress=False).timings.plans > 0
    with pytest.raises(ValueError, match="action space"):
        loaded.set_env("wm/TwoRoom-v0")


def test_a_temperature_draws_actions_with_the_networks_probabilities(made, tmp_path):
    *_, agent = made
    frames = {key: np.zeros((32, 32, 3), np.uint8) for key in ("pixels", "goal_pixels")}

    def actions(player, steps=400):
        memory, taken = None, []
        for _ in range(steps):
            action, memory = player.predict(frames, memory)
            taken.append(np.ravel(action))
        return np.stack(taken)

    still = wm_agents.GCIDM(agent.world_model, heads=agent.heads, seed=1)
    assert len(np.unique(actions(still, 5), axis=0)) == 1, "the same image gives the same action for ever"
    drawn = wm_agents.GCIDM(agent.world_model, heads=agent.heads, seed=1, temperature=1.0)
    found = actions(drawn)
    model = agent.world_model
    z = model.features(model.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)))
    scores = agent.inverse_dynamics(z, z, z, torch.zeros(1, dtype=torch.long))[0]
    for column, group in zip(found.T, scores.split(model.spec.choices), strict=True):
        shares = np.bincount(column.astype(int), minlength=len(group)) / len(column)
        assert np.abs(shares - torch.softmax(group.detach(), 0).numpy()).max() < 0.1
    np.testing.assert_array_equal(actions(drawn, 20), found[:20], err_msg="the seed fixes the draws")
    pair = {key: np.stack([value, value + 9]) for key, value in frames.items()}
    both = drawn.predict(pair, None)[0]
    assert (both[0] == drawn.predict({key: value[0] for key, value in pair.items()}, None)[0]).all()
    drawn.save(tmp_path / "agent.safetensors")
    assert wm_agents.load(tmp_path / "agent.safetensors").settings.temperature == 1.0


def test_a_temperature_of_continuous_actions_is_refused():
    with pytest.raises(ValueError, match="temperature is for discrete actions"):
        wm_agents.load("pointmaze-umaze/gc-idm", temperature=1.0)
    for wrong in (-1, float("nan"), "hot"):
        with pytest.raises(ValueError, match="temperature"):
            wm_agents.load("pointmaze-umaze/gc-idm", temperature=wrong)


def test_a_nudge_of_discrete_actions_is_refused(made):
    *_, agent = made
    with pytest.raises(ValueError, match="nudge is for continuous actions"):
        wm_agents.GCIDM(agent.world_model, heads=agent.heads, nudge=0.5)


def test_gc_idm_proposes_plans(made):
    *_, agent = made
    observation = {key: np.zeros((32, 32, 3), np.uint8) for key in ("pixels", "goal_pixels")}
    options = {"horizon": 2, "samples": 10, "elites": 2, "iterations": 1}
    wm_agents.MPC(agent.world_model, heads=agent.heads, proposals="gc-idm", **options).predict(observation)


def test_planners_of_continuous_actions_are_refused(made):
    *_, agent = made
    with pytest.raises(ValueError, match=r"Unknown planner of discrete actions 'mppi'.*Known: cem"):
        wm_agents.MPC(agent.world_model, planner="mppi")
    with pytest.raises(ValueError, match="follows gradients"):
        wm_agents.train_head("imagination", agent.world_model, made[2], heads=agent.heads, progress=False)


@pytest.mark.parametrize("choices", [(4,), (3, 2)])
def test_the_search_finds_the_best_sequence(choices):
    size = sum(choices)
    target = torch.zeros(2, 3, 2 * size)
    generator = torch.Generator().manual_seed(1)
    for row in target.view(-1, size):
        for group in row.split(choices):
            group[torch.randint(len(group), (1,), generator=generator)] = 1

    def cost(actions):
        assert ((actions == 0) | (actions == 1)).all()
        return (actions - target.unsqueeze(1)).abs().sum((-1, -2))

    planner = CategoricalCEM(horizon=3, samples=200, elites=20, iterations=12, choices=choices)
    bounds = {"low": torch.zeros(2 * size), "high": torch.ones(2 * size)}
    plan = planner.plan(cost, batch=2, generator=torch.Generator().manual_seed(0), **bounds)
    assert torch.equal(plan.actions, target)
    assert (plan.cost == 0).all()
    warm = planner.plan(cost, batch=2, init=plan.elites, generator=torch.Generator().manual_seed(0), **bounds)
    assert torch.equal(warm.actions, target)


def test_costs_that_are_not_finite_are_the_worst():
    def cost(actions):
        first = actions[..., 0, 0]
        return torch.where(first > 0, torch.nan, actions[..., 1].sum(-1))

    planner = CategoricalCEM(horizon=2, samples=50, elites=10, iterations=5, choices=(3,))
    plan = planner.plan(cost, low=torch.zeros(3), high=torch.ones(3), generator=torch.Generator().manual_seed(0))
    assert plan.cost.item() == 0
    assert plan.actions[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"elites": 400}, "must not exceed"), ({"smoothing": 0}, "above 0"), ({"choices": (0,)}, "at least 1")],
)
def test_bad_options_of_the_search(options, message):
    with pytest.raises(ValueError, match=message):
        make("cem", horizon=2, table=DISCRETE_PLANNERS, **options)
