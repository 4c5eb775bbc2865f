"""Calibration: how good probabilities are, what they are fitted on, and where they are shown."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from dot_env import Dot
from rich.console import Console
from scipy.special import expit

import wm_agents
from wm_agents import GCIDM, cli, evaluation
from wm_agents.agents.assess import Assessment
from wm_agents.agents.files import open_checkpoint
from wm_agents.envs import register_wrapped
from wm_agents.evaluation import (
    Grid,
    Recording,
    auroc,
    brier_score,
    calibrate,
    calibration,
    calibration_error,
    evaluate,
    make_manifest,
    print_report,
    reliability_figure,
)
from wm_agents.evaluation.video import compose

UMAZE = "wm/PointMaze-UMaze-v0"


def bare() -> wm_agents.GCIDM:
    """A shipped agent without its calibration."""
    agent = wm_agents.load("pointmaze-umaze/gc-idm", device="cpu")
    del agent.heads["assessment"]
    return agent


def test_calibration_error_of_known_cases():
    chances, solved = np.repeat([0.2, 0.8], 100), np.tile(np.arange(10) < 2, 20)
    solved[100:] = ~solved[100:]
    assert calibration_error(chances, solved) == pytest.approx(0)
    assert calibration_error(1 - chances, solved) == pytest.approx(0.6)
    assert calibration_error(np.array([0.3]), np.array([True])) == pytest.approx(0.7)
    # Equal mass: 90 tasks near 0 and 10 near 1 make nine bins of the former and one of the latter.
    chances, solved = np.repeat([0.01, 0.99], [90, 10]), np.repeat([False, True], [90, 10])
    assert calibration_error(chances, solved) == pytest.approx(0.01)
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(100)
    assert calibration_error(chances[shuffled], solved[shuffled]) == pytest.approx(0.01)


def test_ranking_and_squared_error_of_known_cases():
    solved = np.array([False, False, True, True])
    assert auroc(np.array([0.1, 0.2, 0.3, 0.4]), solved) == 1
    assert auroc(np.array([0.4, 0.3, 0.2, 0.1]), solved) == 0
    assert auroc(np.full(4, 0.5), solved) == 0.5
    assert auroc(np.full(4, 0.5), np.ones(4, bool)) is None
    assert brier_score(np.array([0.0, 0.0, 1.0, 0.5]), solved) == pytest.approx(0.0625)


@pytest.mark.parametrize("measure", [calibration_error, auroc, brier_score])
def test_what_is_no_probability_is_refused(measure):
    for predicted, solved in (([], []), ([0.5], [True, False]), ([1.1], [True]), ([np.nan], [True])):
        with pytest.raises(ValueError, match=r"probability|probabilities"):
            measure(np.array(predicted), np.array(solved, bool))


def test_logistic_regression_finds_the_coefficients():
    rng = np.random.default_rng(0)
    x = rng.normal(3, [1, 20], (20_000, 2))
    solved = rng.random(len(x)) < expit(x @ [1.0, -0.1] + 0.5)
    np.testing.assert_allclose(calibration.logistic_regression(x, solved), [1.0, -0.1, 0.5], rtol=0.1, atol=0.1)
    constant = calibration.logistic_regression(x[:100], np.ones(100, bool))
    assert np.isfinite(constant).all()


@pytest.fixture(scope="module")
def small():
    """A calibration of few and short runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "OFFSETS", (25,))
        patch.setattr(calibration, "EPISODES", 4)
        yield


@pytest.fixture(scope="module")
def measured(small, tmp_path_factory):
    """The agent, its calibration, and where the runs are."""
    folder = tmp_path_factory.mktemp("runs")
    agent = bare()
    return agent, calibrate(agent, folder, tasks=50), folder


def test_an_agent_is_calibrated_on_near_and_far_development_tasks(measured):
    _, found, folder = measured
    assert {path.stem for path in folder.iterdir()} == {"25", "any", "same"}
    sets = {name: Grid(folder).stored(name) for name in ("25", "any", "same")}
    assert [one["seed"] for one in sets.values()] == [1001, 1002, 1002]
    assert {one["budget"] for one in sets.values()} == {300}
    assert sum(one["tasks"] for one in sets.values()) == found.measured["tasks"] == 60
    assert len(found.predicted) == len(found.solved) == found.measured["rows"]
    assert 0.6 < found.measured["solved"] < 1, "an eighth of the time is too short for some"
    assert abs(found.measured["predicted"] - found.measured["solved"]) < 0.1
    assert found.head.config.agents == ("gc-idm",)
    assert found.head.config.limit == 300


class Fenced(Dot):
    """Ends where the dot comes near a wall: some episodes sooner than others, and none late."""

    def step(self, action):
        seen, reward, _, truncated, info = super().step(action)
        return seen, reward, info["far"], truncated, info


def test_episodes_of_foreign_environments_may_end_early(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "OFFSETS", (5, 150))
    register_wrapped("fenced/Dot-v0", lambda: Fenced("rgb_array"), image_size=32, goal_steps=8)
    agent = GCIDM("lewm", "fenced/Dot-v0", seed=0)
    agent.env_id = "fenced/Dot-v0"
    agent.heads["assessment"] = calibrate(agent, tmp_path, tasks=50, num_envs=50).head
    assert {path.stem for path in tmp_path.iterdir()} == {"5", "any", "same"}, "no episode has 150 steps"
    assert len(agent.assess(agent.env.reset())) == 1


def test_finished_runs_are_not_made_again(measured, small, monkeypatch):
    agent, found, folder = measured
    monkeypatch.setattr("wm_agents.evaluation.grid.evaluate", lambda *_, **__: pytest.fail("run again"))
    again = calibrate(agent, folder, tasks=50)
    np.testing.assert_array_equal(again.predicted, found.predicted)
    for name, value in found.head.state_dict().items():
        np.testing.assert_array_equal(again.head.state_dict()[name], value, err_msg=name)


def test_a_second_agent_joins_the_first(measured, small):
    agent, found, _ = measured
    other = wm_agents.load("pointmaze-umaze/hierarchical", device="cpu")
    other.heads["assessment"] = found.head
    runs = {name: found.head.config.options[0] for name in found.head.config.agents}
    manifests = calibration._manifests(UMAZE, 300, 50, 1001)
    seen = [calibration._seen(other, manifest) for manifest in manifests.values()]
    situations = [calibration.situation_of(other, found.head, *images) for images in seen]
    outcomes = [np.where(np.arange(len(manifest)) % 2, 40, 0) for manifest in manifests.values()]
    head = calibration._fitted(other, found.head, manifests, situations, outcomes, 300).head
    assert head.config.agents == ("gc-idm", "hierarchical")
    assert head.config.options[0] == runs["gc-idm"]
    np.testing.assert_array_equal(head.weights[0], found.head.weights[0])
    assert not np.array_equal(head.weights[0], head.weights[1])
    again = calibration._fitted(agent, found.head, manifests, situations, outcomes, 300).head
    assert again.config.agents == ("gc-idm",)


def test_the_command_keeps_what_a_file_holds(measured, tmp_path, monkeypatch, capsys):
    _, found, _ = measured
    asked = []
    monkeypatch.setattr(evaluation, "calibrate", lambda agent, *_, **options: asked.append((agent, options)) or found)
    out = tmp_path / "new" / "agent.safetensors"

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["wm-agents", "calibrate", *words])
        cli.main()

    call("pointmaze-umaze/gc-idm", "--tasks", "60", "--out", str(out))
    assert "wrote" in capsys.readouterr().out
    stored = open_checkpoint(out)
    before = wm_agents.load("pointmaze-umaze/gc-idm")
    assert set(stored.heads) == {*before.heads, "assessment"}
    assert stored.provenance["calibration"]["gc-idm"]["tasks"] == found.measured["tasks"]
    assert (out.parent / "reliability-gc-idm.png").is_file()
    with pytest.raises(SystemExit):  # nothing is overwritten by another agent's file
        call("pointmaze-umaze/gc-idm", "--out", str(out))
    assert f"{out}:gc-idm" in " ".join(capsys.readouterr().err.split())
    call(f"{out}:cem")
    assert [agent.name for agent, _ in asked] == ["gc-idm", "cem"]
    assert asked[0][1]["identity"] == asked[1][1]["identity"], "the calibration itself does not count"
    assert set(open_checkpoint(out).provenance["calibration"]) == {"gc-idm", "cem"}
    assert open_checkpoint(out).agent == stored.agent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 10}, "tasks must be at least 50"),
        ({"seed": 7001}, "development tasks, seeds 1001 to 6995, not 7001"),
        ({"seed": 0}, "not 0"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ],
)
def test_bad_settings_name_the_way_out(options, message, tmp_path):
    agent = wm_agents.load("pointmaze-umaze/gc-idm")
    with pytest.raises(ValueError, match=message):
        calibrate(agent, tmp_path, **options)
    agent.env_id = ""
    with pytest.raises(ValueError, match="which environment"):
        calibrate(agent, tmp_path)
    with pytest.raises(ValueError, match=r"calibrate an agent.*not a str"):
        calibrate("pointmaze-umaze/gc-idm", tmp_path)


def test_evaluation_shows_what_was_expected(measured, tmp_path):
    _, found, _ = measured
    agent = wm_agents.load("pointmaze-umaze/gc-idm", device="cpu")
    agent.heads["assessment"] = found.head
    tasks = make_manifest(UMAZE, tasks=5, offset=25, budget=50, seed=2001)
    result = evaluate(agent, tasks, num_envs=2, video=[3], progress=False)
    shown = result.to_dict()["assessment"]
    assert shown["known"] == 5
    assert len(shown["success_probability"]) == 5
    assert shown["predicted"] == pytest.approx(np.mean(shown["success_probability"]))
    assert shown["solved"] == result.success_rate
    assert {"ece", "auroc", "brier"} <= set(shown)
    assert f"success {100 * shown['success_probability'][3]:.0f}%" in result.recordings[0].caption
    printed = io.StringIO()
    print_report([result], Console(file=printed, width=200))
    assert f"expected to solve {100 * shown['predicted']:.1f}% of 5 tasks" in printed.getvalue()
    agent.heads["assessment"].config.__dict__["agents"] = ("cem",)
    other = evaluate(agent, tasks, num_envs=5, progress=False)
    assert other.to_dict()["assessment"]["known"] == 0
    printed = io.StringIO()
    print_report([other], Console(file=printed, width=200))
    assert "could not say how likely" in printed.getvalue()


def test_an_agent_without_calibration_says_nothing():
    tasks = make_manifest(UMAZE, tasks=2, offset=25, budget=3, seed=2001)
    result = evaluate(bare(), tasks, video=1, progress=False)
    assert result.to_dict()["assessment"] is None
    assert result.recordings[0].caption == ""


def test_a_caption_stands_below_the_images():
    image = np.full((64, 64, 3), 90, np.uint8)
    plain, short, long = (
        next(compose(Recording(0, image, [image] * 2, caption=text)))
        for text in ("", str(Assessment(0.8, 40.0, "", True)), "$outside$ the data " * 12)
    )
    assert plain.shape[0] < short.shape[0] < long.shape[0]
    for frame in (short, long):
        assert frame.shape[1] == plain.shape[1]
        assert frame.shape[0] % 2 == 0
        np.testing.assert_array_equal(frame[: len(plain)], plain)
        assert frame[len(plain) :].max() > 200, "text is white"


def test_the_reliability_diagram_has_a_point_for_each_bin():
    chances = np.linspace(0.05, 0.95, 100)
    figure = reliability_figure(chances, np.random.default_rng(0).random(100) < chances, title="a task")
    axes = figure.axes[0]
    assert len(axes.containers) == 10
    assert axes.get_title() == "a task"
    assert len(reliability_figure(chances[:3], np.ones(3, bool)).axes[0].containers) == 3
    with pytest.raises(ValueError, match="one probability"):
        reliability_figure(np.array([]), np.array([], bool))
