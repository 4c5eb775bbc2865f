"""A comparison: what is trained once, what is reused and said, what the report holds, what is refused."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from wm_agents import baselines, cli, evaluation
from wm_agents.evaluation.comparison import training
from wm_agents.evaluation.comparison.markdown import to_markdown
from wm_agents.evaluation.comparison.plan import Plan
from wm_agents.evaluation.comparison.summary import summarise_comparison
from wm_agents.evaluation.comparison.training import Candidate, clocked

UMAZE = "wm/PointMaze-UMaze-v0"
REACHER = "wm/Reacher-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(autouse=True)
def small(folder, monkeypatch):
    """Data of its own, and small networks and few models on the way where SB3 learns."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    monkeypatch.setattr(training, "POINTS", 2)
    use(monkeypatch, batch_size=16, policy_kwargs={"net_arch": [8]})


def use(monkeypatch, **options):
    """Change settings of the baselines."""
    usual = baselines.settings
    monkeypatch.setattr(
        baselines,
        "settings",
        lambda *names: dataclasses.replace(how := usual(*names), options={**how.options, **options}),
    )


def run(folder, *agents, **options):
    """Compare in the folder; return the content and what was said."""
    said = io.StringIO()
    content = evaluation.compare(
        UMAZE,
        agents,
        quick=True,
        tasks=3,
        out=folder / "out",
        device="cpu",
        console=Console(file=said, width=500),
        **options,
    )
    return content, said.getvalue()


def test_everything_is_trained_once_measured_and_reported(folder):
    agents = ("gc-idm", "sac-her", "gcbc")
    content, said = run(folder, *agents)
    out = folder / "out"
    assert said.count("trains ") == 3
    assert "reuses" not in said
    for name in ("report.md", "report.json", "steps.png", "seconds.png", "ms.png"):
        assert (out / name).stat().st_size > 0
    assert list(content["protocols"]) == ["25/50", "any"]
    for part in content["protocols"].values():
        rows = {row["agent"]: row for row in part["rows"]}
        assert list(rows) == list(agents)
        assert rows["gc-idm"]["steps"] == rows["gcbc"]["steps"] == 1600, "both kinds of recorded data count"
        assert [point["steps"] for point in rows["sac-her"]["points"]] == [300, 600]
        assert all(row["seconds"] > 0 and row["ms"] > 0 for row in rows.values())
        assert {(pair["first"], pair["second"]) for pair in part["pairs"]} == {
            ("gc-idm", "sac-her"), ("gc-idm", "gcbc"), ("sac-her", "gcbc")
        }  # fmt: skip
    assert json.loads((out / "report.json").read_text()) == content
    text = (out / "report.md").read_text()
    assert "is no result" in text
    for words in ("| sac-her | online RL | state | yes |", "| gcbc | cloning | pixels | no |", "p = "):
        assert words in text
    again, said = run(folder, *agents)
    assert said.count("reuses ") == 3
    assert "trains" not in said
    assert again["protocols"] == content["protocols"]
    cells = [json.loads(path.read_text()) for path in (out / "cells").glob("*_seed-0_*.json")]
    assert {cell["key"]["num_envs"] for cell in cells} == {16}, "times of other batches are not reused"


def test_another_configuration_is_trained_beside_the_first(folder, monkeypatch):
    run(folder, "sac-her")
    before = {path: path.read_bytes() for path in (folder / "out" / "agents").glob("sac-her-*/model-*.zip")}
    use(monkeypatch, learning_rate=2e-3)
    _, said = run(folder, "sac-her")
    assert "differ in configuration, data or versions and stay" in said
    assert all(path.read_bytes() == data for path, data in before.items())
    assert len(list((folder / "out" / "agents").glob("sac-her-*"))) == 2


def test_one_agent_that_fails_does_not_lose_the_others(folder, monkeypatch):
    def broken(*_, **__):
        raise FloatingPointError("NaN in the critic")

    monkeypatch.setattr(baselines, "train", broken)
    with pytest.raises(RuntimeError, match=r"report\.md names them: sac-her, seed 0: FloatingPointError"):
        run(folder, "gc-idm", "sac-her")
    text = (folder / "out" / "report.md").read_text()
    assert "- sac-her, seed 0: FloatingPointError: NaN in the critic" in text
    assert "| gc-idm | " in text


def test_last_models_of_the_first_seed_are_filmed(folder):
    said = io.StringIO()
    use_ppo = {"steps": 40, "tasks": 2, "out": folder / "filmed", "device": "cpu", "console": Console(file=said)}
    with pytest.MonkeyPatch.context() as patch:
        use(patch, n_steps=5, batch_size=8)
        content = evaluation.compare(UMAZE, ("ppo",), **use_ppo)
    assert [len(part["rows"][0]["points"]) for part in content["protocols"].values()] == [2, 2]
    assert sorted(path.name for path in (folder / "filmed" / "videos").iterdir()) == ["any.mp4", "near.mp4"]
    solved = json.loads((folder / "filmed" / "cells" / "video_near.json").read_text())["solved"]
    assert solved.keys() == {"ppo"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": ("gc-idn",)}, "Did you mean 'gc-idm'"),
        ({"agents": ("sac-hr",)}, "Did you mean 'sac-her'"),
        ({"agents": ("hiqll",)}, "hierarchical, hiql, icem"),
        ({"agents": ("cem", "cem-mpc")}, "different names"),
        ({"agents": ()}, "at least one"),
        ({"seeds": 0}, "seeds"),
        ({"env_id": "CartPole-v1"}, "Unknown task"),
        ({"env_id": "wm/Reachr-v0"}, "Reacher"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Plan(**{"env_id": REACHER, **options})
    assert "\n" not in str(error.value)


def test_what_cannot_be_trained_is_said_before_anything_is(tmp_path):
    with pytest.raises(ValueError, match="before it learns"):
        evaluation.compare(REACHER, ("gc-idm", "sac-her"), steps=100, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_less_data_can_be_asked_for():
    recipe = Plan(REACHER, data_steps=20_000).recipe()
    assert {name: (part.episodes, part.steps) for name, part in recipe.data.items()} == {
        "main": (14, 200),
        "reach": (86, 200),
    }
    assert recipe.dataset != Plan(REACHER).recipe().dataset


def test_interrupted_times_add_up(tmp_path):
    path = tmp_path / "clock.json"
    with pytest.raises(KeyboardInterrupt), clocked(path):
        raise KeyboardInterrupt
    first = json.loads(path.read_text())
    with clocked(path):
        pass
    second = json.loads(path.read_text())
    with clocked(path):
        pass
    assert (first["complete"], second["complete"]) == (False, True)
    assert second["seconds"] > first["seconds"]
    assert json.loads(path.read_text()) == second, "a complete run is not timed again"


def test_several_seeds_are_compared_seed_by_seed_and_over_all():
    plan = Plan(UMAZE, ("gc-idm", "sac-her"), seeds=2, tasks=40)
    manifest = evaluation.make_manifest(UMAZE, tasks=40, offset="random", budget=300)

    def measured(agent, seed, solved):
        cell = {
            "outcomes": {"moderate": [7] * solved + [None] * (40 - solved)},
            "success_rate": solved / 40,
            "strict": {"success_rate": 0.0},
            "ms_per_step": {"mean": 1.0 + seed},
            "floors": {"random": 0.05, "noop": 0.0},
        }
        return [(Candidate(agent, seed, 100 * (seed + 1), 10.0, {}, lambda: None), cell)]  # type: ignore[arg-type,return-value]

    found = {
        "gc-idm": [measured("gc-idm", 0, 40), measured("gc-idm", 1, 36)],
        "sac-her": [measured("sac-her", 0, 10), measured("sac-her", 1, 6)],
    }
    settings = {
        "command": "", "versions": {}, "device": "cpu", "threads": 1, "num_envs": 16, "recorded": False, "folder": "",
    }  # fmt: skip
    content = summarise_comparison(plan, {"any": found}, {"any": manifest}, settings, [])
    ours, theirs = content["protocols"]["any"]["rows"]
    assert ours["rate"] == pytest.approx(0.95)
    assert ours["each"] == [1.0, 0.9]
    assert (ours["steps"], ours["ms"]) == (150.0, 1.5)
    low, high = theirs["ci95"]
    assert low < 0.2 < high
    (pair,) = content["protocols"]["any"]["pairs"]
    assert [(one["only_first"], one["only_second"]) for one in pair["seeds"]] == [(30, 0), (30, 0)]
    assert content["overall"]["gc-idm"]["iqm"] == pytest.approx(0.95)
    text = to_markdown(content)
    assert "gc-idm is ahead in every seed" in text
    assert "without recording the data" in text
    assert "## Over all tasks" in text
    assert np.isfinite(content["overall"]["sac-her"]["ci95"]).all()


def test_the_command_passes_everything_on(monkeypatch, tmp_path, capsys):
    asked = {}

    def compare(env_id, agents, **options):
        asked.update(options, env_id=env_id, agents=agents)
        return {"folder": "somewhere"}

    monkeypatch.setattr(evaluation, "compare", compare)
    words = ["reacher", "--agents", "cem", "ppo", "--seeds", "2", "--data-steps", "500", "--quick"]
    monkeypatch.setattr("sys.argv", ["wm-agents", "compare", *words])
    cli.main()
    assert (asked["env_id"], asked["agents"]) == (REACHER, ("cem", "ppo"))
    assert (asked["seeds"], asked["data_steps"], asked["quick"], asked["steps"]) == (2, 500, True, 20_000)
    assert asked["command"].startswith("wm-agents compare reacher")
    assert "wrote somewhere/report.md" in capsys.readouterr().out
