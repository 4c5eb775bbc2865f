"""Hierarchical planning: when subgoals are proposed, what is told to the low level, and bad input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

import wm_agents
from wm_agents import GCIDM, evaluation
from wm_agents.agents import HierarchicalMPC
from wm_agents.agents.subgoals import GraphSubgoals, MacroSubgoals, Subgoals, SupportWarning
from wm_agents.models import (
    LatentGraph,
    LatentGraphConfig,
    LeWM,
    MacroActions,
    MacroActionsConfig,
    TemporalDistance,
    TemporalDistanceConfig,
)
from wm_agents.models.heads.macro_actions import RESIDUAL
from wm_agents.planning import make
from wm_agents.training import GraphConfig, fit_graph

pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
NO_CLOCK = np.array([np.inf], np.float32)
CHEAP: dict[str, Any] = {"samples": 12, "elites": 4, "iterations": 2}


@pytest.fixture(scope="module")
def heads(trained: Any, small_dataset: Any) -> dict[str, Any]:
    """All that a hierarchical agent can use; the macro-actions and the distance are untrained."""
    torch.manual_seed(0)
    macro_actions = MacroActions(MacroActionsConfig(shortest=2, longest=4, width=32, bank_size=64))
    macro_actions.bank.copy_(torch.randn(64, 8))
    macro_actions.stamp(trained.world_model)
    return {
        "graph": fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=60, support=1), progress=False),
        "macro_actions": macro_actions,
        "inverse_dynamics": trained.agent.inverse_dynamics,
        "temporal_distance": TemporalDistance(TemporalDistanceConfig()),
    }


@pytest.fixture
def make_agent(trained: Any, heads: dict[str, Any]) -> Any:
    return lambda **options: HierarchicalMPC(trained.world_model, **{**heads, "device": "cpu", **options})


@pytest.fixture(scope="module")
def frames() -> list[dict[str, np.ndarray]]:
    """12 observations of 3 environments under random actions."""
    envs = [gym.make(UMAZE) for _ in range(3)]
    now = [env.reset(seed=row)[0] for row, env in enumerate(envs)]
    recorded = []
    for row, env in enumerate(envs):
        env.action_space.seed(row)
    for _ in range(12):
        recorded.append({key: np.stack([observation[key] for observation in now]) for key in now[0]})
        now = [env.step(env.action_space.sample())[0] for env in envs]
    for env in envs:
        env.close()
    return recorded


class Scripted:
    """A high level that proposes where it was told to, in so many steps."""

    def __init__(self, steps: float, gap: float = 99.0) -> None:
        self.expected, self.gap, self.calls = steps, gap, 0

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        self.calls += 1
        n = len(z)
        return Subgoals(
            goal + self.calls, np.full(n, self.expected, np.float32), np.full(n, 7), np.zeros(n, bool), 5 * n
        )

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        return torch.full((len(z),), self.gap)


def line(n: int, steps: float = 10.0) -> LatentGraph:
    """Nodes at 0, 1, 2, ... on a line, ``steps`` apart, passable in both directions."""
    pairs = [(a, a + 1) for a in range(n - 1)] + [(a + 1, a) for a in range(n - 1)]
    graph = LatentGraph(LatentGraphConfig(1, n, len(pairs), 0))
    graph.latents.copy_(torch.arange(float(n)).unsqueeze(1))
    graph.sources.copy_(torch.tensor([a for a, _ in pairs]))
    graph.targets.copy_(torch.tensor([b for _, b in pairs]))
    graph.steps.fill_(steps)
    graph.steps_per_unit.fill_(steps)
    graph.radius.fill_(0.5)
    return graph


# The high level.


def test_the_graphs_subgoal_lies_the_lookahead_along_the_shortest_way() -> None:
    high = GraphSubgoals(line(9), lookahead=25)
    z, goal = torch.tensor([[0.1], [8.0], [5.0], [6.0], [6.9]]), torch.tensor([[8.0], [0.0], [8.2], [8.4], [8.2]])
    found = high.propose(z, goal, NO_CLOCK, 0)
    assert found.node.tolist() == [3, 5, -1, -1, -1]  # three edges make 25 steps; near goals are final
    torch.testing.assert_close(found.latents, torch.tensor([[3.0], [5.0], [8.2], [8.4], [8.2]]))
    np.testing.assert_allclose(found.steps, [31, 30, 32, 24, 13], atol=1e-4)
    assert not found.detour.any()
    assert high.steps(torch.tensor([[1.0]]), torch.tensor([[1.4]])).item() == pytest.approx(4.0)


def test_without_a_way_the_subgoal_is_the_nearest_reachable_node() -> None:
    graph = line(9)
    graph.steps.masked_fill_((graph.sources == 4) & (graph.targets == 5), 1e9)
    graph.sources[graph.steps > 1e8] = 8  # the edge from 4 to 5 leads nowhere useful: 5 and beyond are cut off
    graph.targets[graph.steps > 1e8] = 7
    high = GraphSubgoals(graph, lookahead=15)
    z, goal = torch.tensor([[3.0], [0.0], [4.0], [6.0]]), torch.tensor([[8.0], [8.0], [8.0], [0.0]])
    found = high.propose(z, goal, NO_CLOCK, 0)
    assert found.detour.tolist() == [True, True, True, False]
    assert found.node.tolist() == [4, 2, 4, 4]


def test_a_node_that_leads_nowhere_is_no_start() -> None:
    graph = line(4)
    graph.latents[3, 0] = 0.2  # as near to the start as node 0, but with no edge out of it
    graph.targets[graph.sources == 3] = 1
    graph.sources[graph.sources == 3] = 0
    graph.radius.fill_(0.3)
    found = GraphSubgoals(graph, lookahead=15).propose(torch.tensor([[0.15]]), torch.tensor([[2.0]]), NO_CLOCK, 0)
    assert not found.detour.any()
    assert found.node.tolist() == [-1]
    assert found.steps[0] == pytest.approx(1.5 + 20)


def test_a_goal_unlike_the_data_is_warned_of_with_its_distance() -> None:
    high = GraphSubgoals(line(3), lookahead=25)
    with pytest.warns(SupportWarning, match=r"lies 6\.0 times as far"):
        high.propose(torch.tensor([[0.0]]), torch.tensor([[5.0]]), NO_CLOCK, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        high.propose(torch.tensor([[0.0]]), torch.tensor([[2.4]]), NO_CLOCK, 0)


@pytest.mark.parametrize("support", ["bounds", "bank", "density", "none"])
def test_macro_actions_stay_on_the_support_that_is_asked_for(support: Any, heads: dict[str, Any]) -> None:
    model, asked = heads["macro_actions"].eval(), []
    high = MacroSubgoals(model, heads["temporal_distance"], make("cem", horizon=2, **CHEAP), 1, support, None)
    predict = model.predict
    model.predict = lambda z, macro: asked.append(macro.reshape(-1, 8)) or predict(z, macro)
    try:
        with torch.no_grad():
            found = high.propose(torch.randn(2, 32), torch.randn(2, 32), NO_CLOCK, 0)
    finally:
        del model.predict
    assert found.node.tolist() == [-2, -2]
    assert found.evaluations == 2 * 2 * (12 * 2 + 1)
    macros = torch.cat(asked)
    if support == "bank":
        assert (macros[:, None] - model.bank).abs().amax(-1).amin(1).max() <= RESIDUAL + 1e-5
    else:
        low, high_bound = model.bounds(0.0 if support == "none" else 2.0)
        assert (macros >= low - 1e-5).all()
        assert (macros <= high_bound + 1e-5).all()


def test_snapped_subgoals_are_nodes_and_near_goals_are_final(heads: dict[str, Any]) -> None:
    graph, distance = heads["graph"], heads["temporal_distance"]
    z, planner = graph.latents[:2], make("cem", horizon=2, **CHEAP)
    with torch.no_grad():
        far, near = (
            MacroSubgoals(heads["macro_actions"], distance, planner, lookahead, "bank", graph).propose(
                z, z.flip(0), NO_CLOCK, 0
            )
            for lookahead in (1, 10**6)
        )
    torch.testing.assert_close(far.latents, graph.latents[torch.from_numpy(far.node)])
    assert near.node.tolist() == [-1, -1]
    torch.testing.assert_close(near.latents, z.flip(0))


# When subgoals are proposed.


@pytest.mark.parametrize(
    ("high", "replan_every", "period"),
    [(Scripted(30), 4, 4), (Scripted(30, gap=2.0), 20, 1)],
    ids=["every-4-steps", "reached"],
)
def test_a_subgoal_is_replaced_when_reached_or_old(
    high: Scripted, replan_every: Any, period: int, make_agent: Any, frames: Any
) -> None:
    agent, state = make_agent(high=high, replan_every=replan_every), None
    for time, observation in enumerate(frames):
        _, state = agent.predict(observation, state=state)
        record = agent.last_subgoal
        assert record.new.tolist() == [time % period == 0] * 3
        assert agent.last_decision.plans == (3 if time % period == 0 else 0)
        assert state["own.age"].tolist() == [time % period + 1] * 3
        assert record.reached.tolist() == [high.gap < 5 and time > 0] * 3
        assert record.overdue.tolist() == [False] * 3
        assert record.node.tolist() == [7] * 3


@pytest.mark.parametrize("replan_every", [None, 4, 20])
def test_an_overdue_subgoal_is_given_up_for_a_node_nearby_and_tried_again(
    replan_every: Any, make_agent: Any, heads: dict[str, Any], frames: Any
) -> None:
    agent, state = make_agent(high=Scripted(3), replan_every=replan_every), None
    for time, observation in enumerate(frames[:11]):
        _, state = agent.predict(observation, state=state)
        record = agent.last_subgoal
        assert record.overdue.tolist() == [time == 10] * 3, "proposing the same node again does not set the clock back"
        assert (record.node == 7).all() or time == 10
    z = agent.world_model.encode(torch.from_numpy(frames[10]["pixels"]))
    near = torch.cdist(z, heads["graph"].latents).topk(16, largest=False).indices.tolist()
    assert all(node in nodes for node, nodes in zip(record.node.tolist(), near, strict=True))
    np.testing.assert_allclose(state["own.subgoal"], heads["graph"].latents[torch.from_numpy(record.node)], rtol=1e-6)
    wait = np.ceil(state["own.expected"])
    for time in range(1, int(wait.max()) + 1):
        _, state = agent.predict(frames[10], state=state)
        assert (agent.last_subgoal.node[wait <= time] == 7).all()
        assert state["own.astray"].tolist() == (wait > time).tolist()


def test_a_new_goal_or_episode_gets_a_new_subgoal_and_other_rows_keep_theirs(make_agent: Any, frames: Any) -> None:
    agent = make_agent(high=Scripted(30), replan_every=None)
    _, state = agent.predict(frames[0])
    changed = {"pixels": frames[1]["pixels"], "goal_pixels": frames[1]["goal_pixels"][[1, 1, 2]]}
    _, following = agent.predict(changed, state=state)
    assert agent.last_subgoal.new.tolist() == [True, False, False]
    np.testing.assert_array_equal(following["own.subgoal"][1:], state["own.subgoal"][1:])
    agent.predict(changed, state=following, episode_start=np.array([False, True, False]))
    assert agent.last_subgoal.new.tolist() == [False, True, False]


def test_gc_idm_is_told_the_steps_that_are_left(make_agent: Any, frames: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, told, state = make_agent(high=Scripted(9), replan_every=None), [], None
    low: Any = agent.policy.controller.low
    network = low.network

    def spy(z: torch.Tensor, before: torch.Tensor, subgoal: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        told.append(steps.tolist())
        return network(z, before, subgoal, steps)

    monkeypatch.setattr(low, "network", spy)
    spy.config = network.config  # type: ignore[attr-defined]
    for observation in frames[:6]:
        _, state = agent.predict(observation, state=state)
    assert told == [[9] * 3, [8] * 3, [7] * 3, [6] * 3, [5] * 3, [5] * 3]  # never less than a block


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"high": "cem", "high_options": CHEAP},
        {"high": "mppi", "high_options": {**CHEAP, "horizon": 2}, "snap": False, "support": "density"},
        {"low": "cem", "low_options": {**CHEAP, "horizon": 3}},
        {"high": "cem", "high_options": CHEAP, "low": "mppi", "low_options": {**CHEAP, "horizon": 2}},
    ],
    ids=["graph+gc-idm", "cem+gc-idm", "mppi+gc-idm", "graph+cem", "cem+mppi"],
)
def test_every_combination_acts_and_each_environment_as_if_alone(options: Any, make_agent: Any, frames: Any) -> None:
    agent = make_agent(**options)

    def run(rows: slice) -> np.ndarray:
        state, actions = None, []
        for observation in frames[:7]:
            action, state = agent.predict({key: value[rows] for key, value in observation.items()}, state=state)
            actions.append(action)
        return np.stack(actions)

    together = run(slice(None))
    assert (np.abs(together) <= 1).all()
    np.testing.assert_array_equal(together, run(slice(None)))
    for row in range(3):
        np.testing.assert_allclose(run(slice(row, row + 1))[:, 0], together[:, row], atol=2e-3)


# The agent around it.


def test_it_is_saved_with_its_heads_and_serves_the_other_agents(make_agent: Any, frames: Any, tmp_path: Path) -> None:
    agent = make_agent(lookahead=17, replan_every=None, seed=3)
    agent.save(tmp_path / "agent")
    again = wm_agents.load(tmp_path / "agent.zip", device="cpu")
    assert isinstance(again, HierarchicalMPC)
    assert (again.settings.lookahead, again.settings.replan_every, again.seed) == (17, None, 3)
    for name in ("graph", "macro-actions"):
        for key, value in agent.heads[name].state_dict().items():
            assert torch.equal(value, again.heads[name].state_dict()[key])
    np.testing.assert_array_equal(again.predict(frames[0])[0], agent.predict(frames[0])[0])
    flat = wm_agents.load(tmp_path / "agent.zip", agent="gc-idm", device="cpu")
    assert isinstance(flat, GCIDM)
    flat.save(tmp_path / "flat")
    assert wm_agents.load(tmp_path / "flat", agent="hierarchical", device="cpu").heads["graph"] is not None
    assert wm_agents.load(tmp_path / "flat", agent="cem", device="cpu", **CHEAP).heads["macro-actions"] is not None


def test_evaluation_counts_and_draws_subgoals(make_agent: Any, tmp_path: Path) -> None:
    agent = make_agent(lookahead=15)
    manifest = evaluation.make_manifest(UMAZE, tasks=3, offset="random", budget=40, seed=5)
    result = evaluation.evaluate(agent, manifest, num_envs=2, video=[0, 2], progress=False)
    counted = result.to_dict()["subgoals"]
    assert counted["proposed"] >= 3
    assert counted["proposed"] >= counted["reached"] + counted["overdue"]
    env = gym.make(UMAZE)
    for recording in result.recordings:
        assert len(recording.subgoals) == len(recording.subgoal_states) == len(recording.frames) - 1
        assert recording.subgoals[0].shape == (64, 64, 3)
        proposed, reached = evaluation.proposed_subgoals(env, recording)
        assert proposed.shape == (len(reached), 4)
        assert set(map(tuple, proposed)) <= set(map(tuple, agent.heads["graph"].states.numpy()))
    evaluation.write_video(tmp_path / "tasks.gif", result.recordings, height=64)
    figure = evaluation.graph_figure(env, agent.heads["graph"], result.recordings[0], title="UMaze")
    evaluation.save_figure(figure, tmp_path / "graph.png", dpi=40)
    with pytest.raises(ValueError, match="has none: show"):
        evaluation.graph_figure(gym.make("CartPole-v1"), agent.heads["graph"])
    env.close()


def test_it_is_an_sb3_algorithm(make_agent: Any) -> None:
    env = gym.make(UMAZE, max_episode_steps=12)
    agent = make_agent(env=env)
    rewards, lengths = evaluate_policy(agent, env, n_eval_episodes=2, return_episode_rewards=True, warn=False)
    assert len(rewards) == 2
    assert max(lengths) <= 12


def test_bad_input_is_refused(make_agent: Any, trained: Any, heads: dict[str, Any]) -> None:
    for options, message in (
        ({"high": "grpah"}, "Unknown high level 'grpah'. Did you mean 'graph'"),
        ({"low": "gcidm"}, "Unknown low level 'gcidm'. Did you mean 'gc-idm'"),
        ({"lookahead": 0}, "lookahead must be a whole number"),
        ({"replan_every": 0}, "replan_every must be a whole number"),
        ({"high": "cem", "support": "bnak"}, "Did you mean 'bank'"),
        ({"low_options": {"samples": 3}}, "are a planner's"),
        ({"high_options": {"samples": 3}}, "are a planner's"),
        ({"horizon": 25}, 'horizon=25 is for high="waypoints"'),
        ({"high": "cem", "horizon": "estimated"}, 'is for high="waypoints"'),
        ({"chains": 8}, 'chains=8 is for high="waypoints"'),
        ({"high": "cem", "high_options": {"sample": 3}}, "Did you mean 'samples'"),
        ({"graph": None}, "needs the head 'graph': make one"),
        ({"high": "cem", "macro_actions": None}, "needs the head 'macro-actions'"),
        ({"high": "cem", "temporal_distance": None}, "needs the head 'temporal-distance'"),
        ({"inverse_dynamics": None}, "needs the head 'gc-idm'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_agent(**options)
    torch.manual_seed(1)
    names = ("low", "high", "mean", "std")
    statistics: Any = type("S", (), {name: getattr(trained.world_model, f"action_{name}").numpy() for name in names})
    stranger = LeWM(trained.world_model.config, statistics).eval()
    for high in ("graph", "cem"):
        with pytest.raises(ValueError, match="was made on another world model"):
            HierarchicalMPC(stranger, high=high, device="cpu", **heads)
    with pytest.raises(ValueError, match="cannot be saved"):
        make_agent(high=Scripted(3)).options()
