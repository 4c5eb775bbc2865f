"""``learn``: SB3's meaning of it, and what it does to the agent's parts."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from dot_goals import DotGoals
from gymnasium import spaces
from sb3_learning import FAST, KINDS, SHAPE, make_agent, vec
from short_runs import assert_same_weights
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from wm_agents import GCIDM, MPC, HierarchicalMPC, OnlineConfig, datasets, load
from wm_agents.agents.exploration import Noise
from wm_agents.agents.fitting import check_head
from wm_agents.checkpoint import CheckpointError
from wm_agents.models import ActionStatistics, StepsToGoalConfig
from wm_agents.models.cloned import ClonedConfig, ClonedEncoder
from wm_agents.training import DivergedError, GraphConfig, continued, fit_graph


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("actions", ["box", "discrete", "multi"])
def test_every_agent_learns_from_nothing(name, actions):
    if actions != "box" and name == "gradient":
        pytest.skip("gradients need continuous actions")
    agent = make_agent(name, vec(actions, 3))
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    assert agent.learn(130) is agent
    assert agent.num_timesteps == 132, "whole steps of three environments"
    assert agent.replay_buffer.dataset().lengths.sum() == 132, "every step is stored"
    after = agent.policy.state_dict()
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[key], before[key]) for key in after if key.endswith("0.weight"))
    for head in agent.heads.values():
        check_head(head, agent.world_model)
        assert head.fingerprint.any()
    observation = agent.get_env().reset()
    for deterministic in (True, False):
        chosen, _ = agent.predict(observation, deterministic=deterministic)
        assert all(agent.action_space.contains(action) for action in chosen)


def test_what_is_stored_is_what_happened():
    episodes = []

    class Logged(DotGoals):
        def reset(self, **options):
            observation, info = super().reset(**options)
            episodes.append(([observation["pixels"]], []))
            return observation, info

        def step(self, action):
            result = super().step(action)
            episodes[-1][0].append(result[0]["pixels"])
            episodes[-1][1].append(action)
            return result

    data = make_agent("gc-idm", VecTransposeImage(DummyVecEnv([Logged]))).learn(130).replay_buffer.dataset()
    happened = [(frames, actions) for frames, actions in episodes if actions]
    assert len(data) == len(happened) > 10
    for start, length, (frames, actions) in zip(data.starts, data.lengths, happened, strict=True):
        np.testing.assert_array_equal(data.pixels[start : start + length + 1], frames)
        np.testing.assert_array_equal(data.actions[start : start + length], actions)


class Recorder(BaseCallback):
    """Notes what it is told, and can stop."""

    def __init__(self, stop=math.inf):
        super().__init__()
        self.calls, self.stop, self.dones = [], stop, 0

    def _on_training_start(self):
        self.calls.append(f"start {self.locals['total_timesteps']}")

    def _on_rollout_start(self):
        self.calls.append(f"rollout at {self.num_timesteps}")

    def _on_step(self):
        assert self.locals["self"] is self.model
        assert len(self.locals["infos"]) == len(self.locals["rewards"]) == len(self.locals["dones"])
        self.dones += int(self.locals["dones"].sum())
        return self.num_timesteps < self.stop

    def _on_rollout_end(self):
        self.calls.append(f"trains at {self.num_timesteps}")

    def _on_training_end(self):
        self.calls.append("end")


def test_callbacks_are_told_of_everything_and_can_stop():
    agent, recorder = make_agent("gc-idm", vec("box", 2)), Recorder()
    agent.learn(150, callback=recorder)
    rounds = [part for at in (0, 60, 110) for part in (f"rollout at {at}", f"trains at {min(at + 50, 150)}")]
    rounds[1] = "trains at 60"
    assert recorder.calls == ["start 150", *rounds, "end"]
    assert recorder.dones == agent._episode_num > 5
    assert agent.trainer.steps["world-model"] > 15, "each time for all steps"
    assert agent.trainer.steps["gc-idm"] > 30
    trainer = agent.trainer
    agent.learn(150, callback=Recorder(stop=20))
    assert agent.num_timesteps == 20, "counted from 0 again"
    agent.learn(40, callback=Recorder(), reset_num_timesteps=False)
    assert agent.num_timesteps == 60
    assert agent.trainer is trainer, "the same one goes on"


def test_the_log_has_sb3s_names(tmp_path):
    agent = make_agent("gc-idm", vec("box", 2), tensorboard_log=str(tmp_path))
    agent.learn(130, log_interval=1, tb_log_name="mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine_1"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(tmp_path / "mine_1"))
    log.Reload()
    names = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate", "time/fps"}
    assert set(log.Tags()["scalars"]) >= names | {
        "train/prediction",
        "train/gc_idm",
        "train/latent_std",
        "train/n_updates",
    }
    assert agent.learn(60).logger.get_dir().endswith("gc-idm_1"), "the agent's own name by default"


def test_the_same_seed_gives_the_same_agent():
    one, other, another = (make_agent("gc-idm", vec("box", 2), seed=seed).learn(130) for seed in (3, 3, 4))
    assert_same_weights(one.policy, other.policy)
    first = next(iter(one.world_model.parameters()))
    assert not torch.equal(first, next(iter(another.world_model.parameters())))


def rounds_of(monkeypatch):
    """What each training is given: environment steps in the data, gradient steps, and whether it begins anew."""
    seen, train = [], continued.ContinuedTraining.round

    def round_(self, dataset, steps, fresh):
        seen.append((int(dataset.lengths.sum()), steps["world-model"], fresh))
        return train(self, dataset, steps, fresh)

    monkeypatch.setattr(continued.ContinuedTraining, "round", round_)
    return seen


def test_trainings_begin_anew_and_become_rare(monkeypatch):
    seen = rounds_of(monkeypatch)
    make_agent("gc-idm", vec("box")).learn(450, online=dataclasses.replace(FAST, growth=1.0, buffer_size=2000))
    assert [steps for _, steps, _ in seen] == [max(5, round(0.1 * data)) for data, _, _ in seen]
    assert all(fresh for _, _, fresh in seen)
    stored = [data for data, _, _ in seen]
    assert len(stored) == 4, "at 60, 120, 240, and at the end"
    assert all(at - 25 < data <= at for data, at in zip(stored, (60, 120, 240, 450), strict=True))
    assert stored[-1] == 450


def test_a_training_begins_anew_only_with_all_that_was_learned_from(monkeypatch, tmp_path):
    agent, seen = make_agent("gc-idm", vec("box")), rounds_of(monkeypatch)
    agent.learn(70)
    agent.save(tmp_path / "agent.safetensors")
    agent.save_replay_buffer(tmp_path / "replay")
    assert [fresh for *_, fresh in seen] == [True, True]
    for with_data in (False, True):
        again = GCIDM.load(tmp_path / "agent.safetensors", env=vec("box"), device="cpu")
        if with_data:
            again.load_replay_buffer(tmp_path / "replay")
        seen.clear()
        again.learn(40, reset_num_timesteps=False, online=FAST)
        assert seen == [(110, 11, True) if with_data else (40, 4, False)]
    older = GCIDM.load(tmp_path / "agent.safetensors", env=vec("box"), device="cpu")
    del older.provenance["online"]["anew"]
    seen.clear()
    older.learn(40, reset_num_timesteps=False, online=FAST)
    assert seen == [(40, 4, False)], "a file that does not say how it was trained"
    offline = GCIDM(agent.world_model, vec("box"), heads=agent.heads, device="cpu")
    seen.clear()
    offline.learn(70, online=FAST)
    assert all(not fresh for *_, fresh in seen), "its data are not here"
    full = make_agent("gc-idm", vec("box"))
    seen.clear()
    full.learn(500, online=dataclasses.replace(FAST, buffer_size=300))
    assert all(fresh for *_, fresh in seen), "the oldest alone are gone"


def test_statistics_of_actions_are_those_of_the_data_as_long_as_all_are_there(tmp_path):
    agent = make_agent("gc-idm", vec("box"))
    assert agent.world_model.action_mean.tolist() == [0, 0]
    assert set(agent.provenance) == {"untrained"}
    agent.learn(70)
    assert "untrained" not in agent.provenance
    mean = agent.replay_buffer.dataset().action_mean_std()[0]
    np.testing.assert_allclose(agent.world_model.action_mean.numpy(), mean, rtol=1e-5)
    agent.save(tmp_path / "agent.safetensors")
    again = GCIDM.load(tmp_path / "agent.safetensors", env=vec("box"), device="cpu")
    again.learn(70, online=FAST)
    np.testing.assert_allclose(again.world_model.action_mean.numpy(), mean, rtol=1e-5)


def test_it_goes_on_after_save_and_load(tmp_path):
    agent = make_agent("gc-idm", vec("box")).learn(130)
    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "replay.pkl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.zip", "replay.safetensors"]
    again = GCIDM.load(tmp_path / "agent", env=vec("box"), device="cpu")
    again.load_replay_buffer(tmp_path / "replay")
    assert again.num_timesteps == 130
    assert again.replay_buffer.dataset().lengths.sum() == 130
    again.online = FAST
    again.learn(70, reset_num_timesteps=False)
    assert again.num_timesteps == 200
    assert again.replay_buffer.dataset().lengths.sum() == 200
    made = again.provenance["online"]
    assert (made["steps"], made["anew"]) == (200, True)
    assert made["gradient_steps"]["world-model"] > 20, "the last training takes 20"
    assert made["gradient_steps"]["gc-idm"] > 40
    with pytest.raises(CheckpointError, match="of another environment"):
        load("pointmaze-umaze/gc-idm", device="cpu").load_replay_buffer(tmp_path / "replay")
    agent.save(tmp_path / "agent.safetensors")
    with pytest.raises(CheckpointError, match="no replay buffer"):
        agent.load_replay_buffer(tmp_path / "agent")
    with pytest.raises(ValueError, match="no replay buffer to save yet"):
        make_agent("gc-idm", vec("box")).save_replay_buffer(tmp_path / "none")


def test_other_agents_on_the_same_world_model_stay_as_they_are():
    agent = make_agent("gc-idm", vec("box")).learn(130)
    sibling = MPC(agent.world_model, heads=agent.heads, planner="cem", samples=8, elites=2, iterations=1, device="cpu")
    learner = GCIDM(agent.world_model, vec("box"), heads=agent.heads, device="cpu")
    before = {key: value.clone() for key, value in sibling.world_model.state_dict().items()}
    learner.learn(130, online=FAST)
    assert all(torch.equal(value, before[key]) for key, value in sibling.world_model.state_dict().items())
    assert learner.world_model is not sibling.world_model


def test_heads_that_do_not_act_are_dropped_with_a_warning():
    agent = make_agent(
        "gc-idm", vec("box"), heads={"temporal-distance": None, "steps-to-goal": StepsToGoalConfig(width=8)}
    )
    assert set(agent.heads) == {"gc-idm", "steps-to-goal", "temporal-distance"}
    with pytest.warns(UserWarning, match=r"heads that GCIDM does not act with are dropped: temporal-distance"):
        agent.learn(130)
    assert set(agent.heads) == {"gc-idm", "steps-to-goal"}


def test_a_graph_is_built_anew_in_every_round():
    agent = make_agent("gc-idm", vec("box")).learn(130)
    nodes = GraphConfig(nodes=10, support=1)
    graph = fit_graph(agent.world_model, agent.replay_buffer.dataset(), nodes, progress=False)
    hierarchy = HierarchicalMPC(agent.world_model, vec("box"), heads=[*agent.heads.values(), graph], device="cpu")
    hierarchy.learn(130, online=dataclasses.replace(FAST, training={**FAST.training, "graph": nodes}))
    assert hierarchy.heads["graph"] is not graph
    for head in hierarchy.heads.values():
        check_head(head, hierarchy.world_model)


@pytest.mark.parametrize("error", [KeyboardInterrupt, DivergedError])
def test_a_training_that_fails_leaves_the_agent_before_it(error, tmp_path, monkeypatch):
    agent = make_agent("gc-idm", vec("box")).learn(70)
    before, world_model = {key: value.clone() for key, value in agent.policy.state_dict().items()}, agent.world_model

    def failing(learner, now):
        next(iter(now.module.parameters())).data.fill_(math.nan)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(continued, "take_step", failing)
        with pytest.raises(error):
            agent.learn(70, reset_num_timesteps=False)
    assert agent.world_model is world_model
    assert all(torch.equal(value, before[key]) for key, value in agent.policy.state_dict().items())
    agent.save(tmp_path / "agent")
    assert GCIDM.load(tmp_path / "agent", device="cpu").num_timesteps == agent.num_timesteps == 120
    agent.learn(70)
    assert all(value.isfinite().all() for value in agent.world_model.state_dict().values())


def test_a_head_of_the_users_takes_the_place_of_the_trained_one():
    agent = make_agent("gc-idm", vec("box")).learn(70)
    head = copy.deepcopy(agent.heads["gc-idm"])
    with torch.no_grad():
        for weight in head.parameters():
            weight.fill_(0.5)
    agent.use(head)
    agent.online = dataclasses.replace(FAST, head_updates=0.0)
    agent.learn(70)
    assert all((weight == 0.5).all() for weight in agent.heads["gc-idm"].parameters())


def test_recorded_data_are_learned_from_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8) for _ in range(6)]
    actions = [rng.uniform(-1, 1, (12, 2)) for _ in range(6)]
    bounds = {"image_size": 16, "progress": False, "action_low": -1, "action_high": 1}
    data = datasets.from_episodes(images, actions, name="my/own-v0", **bounds)
    told = np.zeros((len(data.pixels), 2))  # which the agent's own episodes do not have
    data = dataclasses.replace(data, states=told, goal_states=told, state_names=("x", "y"))
    agent = make_agent("gc-idm", vec("box")).learn(70, data=data, online=dataclasses.replace(FAST, own_goals=0.8))
    assert agent.provenance["online"]["data"]["sha256"] == data.provenance["sha256"]
    wide = datasets.from_episodes(images, actions, name="my/wide-v0", **{**bounds, "action_high": 2})
    fresh = make_agent("gc-idm", vec("box"))
    with pytest.raises(ValueError, match="their highest action differs"):
        fresh.learn(70, data=wide)
    assert fresh.num_timesteps == 0, "before a step is taken"


def test_noise_changes_slowly_and_each_episode_draws_its_strength():
    space = spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))
    noise, rows = Noise(space, 0.1, 200, np.random.default_rng(0)), np.arange(200)
    for row in rows:
        noise.begin(row)
    middle = np.tile(np.float32([0, 0.5]), (200, 1))
    steps = np.stack([noise.add(rows, middle) - middle for _ in range(400)])[50:]
    spread = steps.std(axis=0) / [2, 0.5]
    assert spread.mean() == pytest.approx(0.1, rel=0.15)
    assert spread.min() < 0.02
    assert 0.17 < spread.max() < 0.25
    after = (steps[1:] * steps[:-1]).sum() / (steps[:-1] ** 2).sum()
    assert after == pytest.approx(np.exp(-1 / Noise.STEPS), abs=0.03)
    for discrete in (spaces.Discrete(3), spaces.MultiDiscrete([3, 2])):
        noise = Noise(discrete, 0.3, 2000, np.random.default_rng(0))
        for row in range(2000):
            noise.begin(row)
        chosen = noise.add(np.arange(2000), np.zeros((2000, *discrete.shape), np.int64))
        assert all(discrete.contains(action) for action in chosen)
        assert (chosen.reshape(2000, -1)[:, 0] > 0).mean() == pytest.approx(0.3 * 2 / 3, abs=0.04)


def test_episodes_that_never_end_are_stored_in_pieces():
    agent = make_agent("gc-idm", vec("box", limit=None, ends=False)).learn(130)
    assert agent.replay_buffer.lengths == [99, 31], "a quarter of the buffer at most"


def test_planners_remember_what_was_really_executed():
    agent = make_agent("cem", vec("box", 2))
    observation, state = agent.get_env().reset(), None
    spec, normalize = agent.world_model.spec, agent.world_model.normalize
    for step in range(2 * spec.action_block):
        action, state = agent.predict(observation, state, deterministic=False)
        blocks = state["own.block"].reshape(2, spec.action_block, -1)
        expected = normalize(torch.from_numpy(action)).numpy()
        np.testing.assert_allclose(blocks[:, step % spec.action_block], expected, atol=1e-5)
        assert np.abs(agent.predict(observation, None)[0] - action).max() > 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"learn\(\) acts in an environment, and this agent has none"):
        load("pointmaze-umaze/gc-idm", device="cpu").learn(10)
    for total in (0, -1, 2.5, "many"):
        with pytest.raises(ValueError, match="total_timesteps must be"):
            make_agent("gc-idm", vec("box")).learn(total)
    for options in ({"train_freq": 0}, {"noise": -1}, {"own_goals": 1.5}, {"random_episodes": 0.6, "own_goals": 0.6}):
        with pytest.raises(ValueError, match=r"train_freq|noise|own_goals"):
            OnlineConfig(**options)
    with pytest.raises(ValueError, match="longest episode of replay buffer"):
        make_agent("gc-idm", vec("box", limit=3)).learn(130)
    with pytest.raises(ValueError, match=r"must be a WorldModel, not str.*name of a kind to learn from nothing"):
        GCIDM("lewn", DotGoals())
    with pytest.raises(ValueError, match="ClonedEncoder cannot be trained"):
        GCIDM("cloned", DotGoals())
    bounds = ActionStatistics(*np.float32([[-1, -1], [1, 1], [0, 0], [1, 1]]))
    clone = GCIDM(ClonedEncoder(ClonedConfig(image_size=16), bounds), DotGoals(), device="cpu")
    with pytest.raises(ValueError, match="ClonedEncoder is no world model that can be trained further"):
        clone.learn(10)
    with pytest.raises(ValueError, match="the first argument must be a WorldModel, not DotGoals"):
        GCIDM(DotGoals())
    with pytest.raises(ValueError, match="env must be an environment, its id, or a VecEnv"):
        GCIDM("lewm")
    with pytest.raises(ValueError, match="needs the head 'graph'"):
        HierarchicalMPC(SHAPE, DotGoals())
