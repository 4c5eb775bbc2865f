"""The ``wm-agents`` command: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import wm_agents
from wm_agents import cli, datasets, doctor, list_checkpoints
from wm_agents.checkpoint import load_checkpoint
from wm_agents.models import TemporalDistance, TemporalDistanceConfig

pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
SMALL = "wm/small/waypoint-v0"
SHAPE = ("--model", "latent_size=8", "predictor_width=32")
TINY = (*SHAPE, "--training", "batch_size=8", "frames=3", "evaluate_every=4", "steps=6")
ISSUE_KEYS = {
    "agent",
    "task",
    "tasks",
    "offset",
    "budget",
    "seed",
    "manifest_sha256",
    "success_rate",
    "ci95",
    "floors",
    "steps_to_success",
    "ms_per_step",
    "ms_per_plan",
    "evaluations_per_plan",
    "version",
}


class Outcome:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/wm-agents", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def data(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data_root))
    return data_root


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "minari"
    folder.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def assert_one_line_error(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for part in parts:
        assert part in outcome.err


# doctor and list.


def test_doctor_passes_where_everything_works(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_checkpoint", None)
    checks = {name: check for name, check in doctor.CHECKS.items() if name != "checkpoints" or list_checkpoints()}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    outcome = call("doctor")
    assert outcome.code == 0
    assert "FAILED" not in outcome.out
    assert {"python", "versions", "rendering", "threads"} <= set(checks)
    assert all(name in outcome.out for name in checks)
    assert "frames/s" in outcome.out


def test_a_failing_check_prints_its_cure_whole_and_exits_with_1(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cure = "apt-get install -y --no-install-recommends libegl1 libgl1 libglib2.0-0 [and so on, to the end of the line]"

    def broken() -> str:
        raise RuntimeError(f"Cannot render. Run\n    {cure}")

    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: "3.11", "rendering": broken})
    outcome = call("doctor")
    assert outcome.code == 1
    assert "FAILED" in outcome.out
    assert cure in outcome.out, "neither wrapped nor read as markup: it is there to be copied"
    assert "Traceback" not in outcome.out + outcome.err


def test_doctor_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "versions", lambda: {"mujoco": "4.0.0"})
    with pytest.raises(RuntimeError, match=r'pip install "mujoco>=3\.3\.3,<4"'):
        doctor._versions()
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.18")
    with pytest.raises(RuntimeError, match=r"3\.10 to 3\.12"):
        doctor._python()
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 10_000)
    with pytest.raises(RuntimeError, match="OMP_NUM_THREADS="):
        doctor._threads()
    monkeypatch.setattr("wm_agents.agents.list_checkpoints", lambda: [])
    with pytest.raises(RuntimeError, match="install wm-agents again"):
        doctor._checkpoint()


def test_doctor_without_a_renderer_tells_the_cure(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "wm_agents.cli", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MUJOCO_GL": "disable"},
    )
    assert ran.returncode == 1
    assert "apt-get install" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_list(call: Any, data: Path) -> None:
    envs = call("list", "envs").out
    for name in wm_agents.envs.ENV_IDS:
        assert name in envs
    assert "5 in [-1, 1]" in envs
    for test in ("moderate: within", "strict: fingertip 1", "strict: 3 cm and 15"):
        assert test in envs
    assert call("list", "datasets").out.split() == [SMALL]
    assert "iCEM" in call("list", "planners").out
    assert call("list", "policies").out.split() == list(datasets.POLICIES)
    assert call("list", "agents").out.split() == list_checkpoints()
    assert call("list", "nonsense").code == 2


# collect, train, fit.


def test_collect_records_once(call: Any, no_data: Path) -> None:
    command = ("collect", UMAZE, "--policy", "smooth-random", "--episodes", 3, "--steps", 12, "--workers", 1)
    outcome = call(*command, "--image-size", 32)
    assert outcome.code == 0
    assert "wm/pointmaze-umaze/smooth-random-v0: 3 episodes, 39 frames" in outcome.out
    dataset = datasets.load("wm/pointmaze-umaze/smooth-random-v0")
    assert dataset.pixels.shape == (39, 32, 32, 3)
    assert call(*command, "--image-size", 32).code == 0
    assert_one_line_error(call(*command, "--image-size", 48), "already exists", "image_size 32 instead of 48")
    assert call(*command, "--image-size", 48, "--overwrite").code == 0


def test_collect_takes_the_tasks_own_policy(call: Any, no_data: Path) -> None:
    outcome = call("collect", "pusht", "--episodes", 1, "--steps", 5, "--image-size", 32)
    assert outcome.code == 0, outcome.err
    assert "wm/pusht/play-v0: 1 episodes, 6 frames" in outcome.out


def test_a_task_whose_upstream_is_missing_says_what_to_install(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wm_agents.envs.cube_scene.find_spec", lambda name: None)
    assert_one_line_error(call("collect", "cube-single", "--episodes", 1), "pip install 'ogbench>=1.2'")
    envs = call("list", "envs").out
    assert "wm/Cube-Single-v0" in envs
    assert "ogbench" in envs
    assert "wm/Reacher-v0" in envs


def test_train_resume_and_fit(call: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train = ("train", SMALL, "--out", out, "--device", "cpu", *TINY)
    assert call(*train).code == 0
    assert {path.name for path in out.iterdir()} >= {"world-model.safetensors", "training", "progress.csv"}
    assert any("tfevents" in path.name for path in out.iterdir())
    checkpoint = load_checkpoint(out / "world-model.safetensors")
    assert checkpoint.world_model.config.latent_size == 8
    assert checkpoint.env_id == UMAZE
    assert checkpoint.provenance["command"].startswith("wm-agents train wm/small/waypoint-v0 --out")
    assert "probe/position" in checkpoint.provenance["measured"]
    before = (out / "world-model.safetensors").read_bytes()
    assert_one_line_error(call(*train), "holds a run already", "--resume")
    other = [*train[:-1], "steps=7"]
    assert_one_line_error(call(*other, "--resume"), "training.steps (6 there, 7 here)")
    assert (out / "world-model.safetensors").read_bytes() == before
    assert call(*train, "--resume").code == 0
    again = load_checkpoint(out / "world-model.safetensors").world_model.state_dict()
    assert all(np.array_equal(value, again[name]) for name, value in checkpoint.world_model.state_dict().items())

    fit = ("fit", "gc-idm", out / "world-model.safetensors", SMALL, "--out", out, "--device", "cpu")
    outcome = call(*fit, "--model", "width=16", "--training", "steps=6", "batch_size=16")
    assert outcome.code == 0, outcome.err
    agent = wm_agents.load(out / "agent.safetensors", device="cpu")
    assert agent.env_id == UMAZE
    assert agent.inverse_dynamics.config.width == 16
    assert agent.provenance["fit"].startswith("wm-agents fit")
    assert agent.provenance["command"].startswith("wm-agents train")
    assert f"wrote {out / 'agent.safetensors'}\n" in outcome.out


def test_fit_keeps_what_else_an_agents_file_holds(call: Any, data: Path, trained: Any, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    agent = wm_agents.load(trained.file, device="cpu", horizon=30, countdown=True)
    agent.use(TemporalDistance(TemporalDistanceConfig(width=16, embedding_size=8)))
    agent.stored_options = {"cem": {"horizon": 2, "samples": 20, "elites": 5}}
    agent.save(whole)
    short = ("--training", "steps=6", "batch_size=16", "--device", "cpu")
    for head, shape in (("gc-idm", ("--model", "width=16")), ("waypoints", ("--model", "width=16", "stride=10"))):
        assert call("fit", head, whole, SMALL, "--out", tmp_path / head, *shape, *short).code == 0
        whole = tmp_path / head / "agent.safetensors"
    fitted = wm_agents.load(whole, device="cpu")
    assert (fitted.name, fitted.settings.horizon, fitted.settings.countdown) == ("gc-idm", 30, True)
    widths = {name: head.config.width for name, head in fitted.heads.items()}
    assert widths == {"gc-idm": 16, "temporal-distance": 16, "waypoints": 16}
    assert fitted.stored_options["cem"]["samples"] == 20
    before = fitted.world_model.state_dict()
    assert call("fit", "predictor", whole, SMALL, "--out", tmp_path / "predictor", *short).code == 0
    refined = wm_agents.load(tmp_path / "predictor" / "agent.safetensors", device="cpu")
    assert refined.heads.keys() == fitted.heads.keys()
    changed = [name for name, value in refined.world_model.state_dict().items() if not value.equal(before[name])]
    assert changed
    assert all(name.startswith("predictor.") for name in changed)


def test_bad_options_of_training_are_one_line(call: Any, data: Path, trained: Any, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    fit, train = ("fit", "gc-idm", trained.file, SMALL, *out), ("train", SMALL, *out)
    assert_one_line_error(call("fit", "gcidm", *fit[2:]), "Did you mean 'gc-idm'")
    assert_one_line_error(call(*fit, "--model", "widht=16"), "InverseDynamicsConfig", "Did you mean 'width'")
    assert_one_line_error(call(*fit, "--training", "steps=20.0"), "steps must be a whole number")
    assert_one_line_error(call(*fit, "--training", "steps"), "options are name=value")
    assert_one_line_error(call(*train, "--kind", "lewn"), "Did you mean 'lewm'")
    assert_one_line_error(call(*train, "--training", "precision=16-mixed"), "precision")
    assert_one_line_error(call(*train, "--training", 'loss_weights={"sigregg": 1}'), "Did you mean 'sigreg'")
    assert_one_line_error(call(*train, "--objective", "smmw"), "Unknown training objective", "Did you mean 'smwm'")
    assert_one_line_error(call(*train, "--objective", "straightened", "--training", "frames=2"), "set frames=3")
    assert_one_line_error(call("fit", "predictor", *fit[2:], "--model", "width=3"), "leave model out")
    assert_one_line_error(call("fit", "world-model", *fit[2:]), "use train_world_model")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_diverged_training_writes_no_checkpoint(call: Any, data: Path, tmp_path: Path) -> None:
    train = ("train", SMALL, "--out", tmp_path / "run", "--device", "cpu", *TINY)
    assert_one_line_error(call(*train, "steps=40", "learning_rate=1000"), "diverged", "Lower the learning rate")
    assert not (tmp_path / "run" / "world-model.safetensors").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(call: Any, data: Path, trained: Any, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run", "--device", "cuda")
    for command in (
        ("train", SMALL),
        ("fit", "gc-idm", trained.file, SMALL),
        ("reproduce", "pointmaze-umaze", "--tasks", 0),
    ):
        assert_one_line_error(call(*command, *out), "no such devices")
    assert_one_line_error(call("train", SMALL, "--out", tmp_path / "run", "--device", "cpuu"), "Did you mean 'cpu'")


def test_ctrl_c_is_one_friendly_line(call: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wm_agents, "train_world_model", interrupted, raising=False)
    outcome = call("train", SMALL, "--out", tmp_path / "run", *TINY)
    assert outcome.code == 130
    assert "continue where they stopped with the same command, train with --resume" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


# evaluate.


def test_evaluate_writes_json_video_and_manifest(call: Any, trained: Any, no_data: Path, tmp_path: Path) -> None:
    report, video, manifest = (tmp_path / name for name in ("report.json", "video.gif", "tasks.json"))
    command = (
        "evaluate",
        trained.file,
        "--tasks",
        3,
        "--offset",
        60,
        "--budget",
        20,
        "--seed",
        5,
        "--num-envs",
        2,
        "--device",
        "cpu",
        "--manifest",
        manifest,
    )
    outcome = call(*command, "--json", report, "--video", video)
    assert outcome.code == 0, outcome.err
    numbers = json.loads(report.read_text())
    assert set(numbers) >= ISSUE_KEYS
    assert (numbers["task"], numbers["tasks"], numbers["offset"]) == ("pointmaze-umaze", 3, 60)
    assert (numbers["budget"], numbers["seed"]) == (20, 5)
    assert set(numbers["floors"]) == {"random", "noop"}
    low, high = numbers["ci95"]
    assert 0 <= low <= numbers["success_rate"] <= high <= 1
    assert 0 < numbers["ms_per_step"]["median"] <= numbers["ms_per_step"]["p95"]
    assert numbers["version"] == wm_agents.__version__
    assert iio.imread(video, index=None).ndim == 4
    assert manifest.exists()
    written = manifest.read_bytes()
    again = tmp_path / "again.json"
    assert call("evaluate", f"{trained.file}:gc-idm", "--manifest", manifest, "--json", again).code == 0
    repeated = json.loads(again.read_text())
    assert repeated["manifest_sha256"] == numbers["manifest_sha256"]
    assert repeated["success_rate"] == numbers["success_rate"]
    assert manifest.read_bytes() == written
    assert not list(no_data.iterdir()), "evaluation needs no dataset"


def test_evaluate_builds_another_agent_of_the_same_file(call: Any, trained: Any, tmp_path: Path) -> None:
    report = tmp_path / "cem.json"
    outcome = call(
        "evaluate",
        f"{trained.file}:cem-mpc",
        "--tasks",
        1,
        "--offset",
        "random",
        "--budget",
        6,
        "--device",
        "cpu",
        "--json",
        report,
    )
    assert outcome.code == 0, outcome.err
    numbers = json.loads(report.read_text())
    assert numbers["offset"] == "random"
    assert numbers["evaluations_per_plan"] == 5 * (300 * 10 + 1)


def test_mistakes_are_one_line_and_exit_with_2(call: Any, trained: Any, no_data: Path, tmp_path: Path) -> None:
    evaluate = ("evaluate", trained.file, "--device", "cpu")
    model = tmp_path / "cut.safetensors"
    model.write_bytes(trained.file.read_bytes()[:5000])
    (tmp_path / "tasks.json").write_text("{}")
    cases: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
        ((*evaluate, "--tasks", 0), ("at least one task",)),
        ((*evaluate, "--offset", "ramdom"), ('"random"', "'ramdom'")),
        ((*evaluate, "--offset", -3), ("offset",)),
        ((*evaluate, "--offset", 1000), ("longer than an episode",)),
        ((*evaluate, "--budget", 0), ("budget", "at least 1")),
        ((*evaluate, "--num-envs", 0), ("num_envs must be at least 1",)),
        ((*evaluate, "--video", "film.avi"), (".mp4 or .gif",)),
        ((*evaluate, "--imagined"), ("add --video",)),
        ((*evaluate, "--task", "wm/PointMaze-Umaze-v0"), ("Did you mean", UMAZE)),
        ((*evaluate, "--manifest", tmp_path / "tasks.json"), ("is no manifest",)),
        ((*evaluate, "--device", "gpu"), ("gpu",)),
        (("evaluate", "pointmaze-umaze/gcidm"), ("Unknown agent",)),
        (("evaluate", f"{trained.file}:gcidm"), ("Did you mean 'gc-idm'",)),
        (("evaluate", tmp_path / "none.safetensors"), ("no checkpoint file at",)),
        (("evaluate", model), ("damaged",)),
        (("train", "wm/nothing/here-v0", "--out", tmp_path / "x"), ("Unknown dataset", "wm-agents collect")),
        (("train", "no dataset name", "--out", tmp_path / "x"), ("dataset",)),
        (("fit", "gc-idm", trained.file, "wm/nothing/here-v0", "--out", tmp_path / "x"), ("Unknown dataset",)),
        (("collect", "wm/PointMaze-Umaze-v0"), ("Did you mean", UMAZE)),
        (("collect", UMAZE, "--policy", "waypoints"), ("Did you mean 'waypoint'",)),
        (("collect", UMAZE, "--episodes", 0), ("At least 1 episode",)),
        (("reproduce", "pointmaze-umase"), ("Did you mean 'pointmaze-umaze'",)),
        (("reproduce", "pointmaze-umaze", "--calibration", 20), ("at least 50 tasks, or 0",)),
        (("quickstart", "--task", "tworooms", "--out", tmp_path / "x"), ("Did you mean 'tworoom'",)),
        (("quickstart", "--tasks", 0, "--out", tmp_path / "x"), ("at least one task",)),
    ]
    for arguments, parts in cases:
        assert_one_line_error(call(*arguments), *parts)
    assert not list(no_data.iterdir()), "a mistake is found before the work begins"


def test_a_manifest_of_another_task_than_asked_for_is_refused(call: Any, trained: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "tasks.json"
    wm_agents.evaluation.make_manifest(UMAZE, tasks=1, offset="random", budget=5).save(manifest)
    command = ("evaluate", trained.file, "--manifest", manifest, "--device", "cpu")
    assert_one_line_error(call(*command, "--task", "wm/TwoRoom-v0"), UMAZE, "wm/TwoRoom-v0")
    assert call(*command, "--task", "pointmaze-umaze").code == 0


def test_bad_flags_print_usage_without_a_traceback(call: Any) -> None:
    for arguments in (("evaluate",), ("nonsense",), ("train", SMALL, "--out", "x", "--steps", "many")):
        outcome = call(*arguments)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err + outcome.out


# quickstart.


def test_quickstart_makes_everything_and_goes_on_from_what_is_there(
    call: Any, no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "quickstart"
    command = ("quickstart", "--fast", "--tasks", 4, "--out", out)
    first = call(*command)
    assert first.code == 0, first.err
    files = {
        "agent.safetensors",
        "tasks.json",
        "cem.json",
        "gc-idm.json",
        "gc-idm.mp4",
        "training.png",
        "paths.png",
        "progress.csv",
    }
    assert files <= {path.name for path in out.iterdir()}
    assert all((out / name).stat().st_size > 100 for name in files)
    for name in ("cem", "gc-idm", "random", "Next:"):
        assert name in first.out
    for name in ("cem", "gc-idm"):
        numbers = json.loads((out / f"{name}.json").read_text())
        assert set(numbers) >= ISSUE_KEYS
        assert numbers["tasks"] == 4
    assert iio.imread(out / "gc-idm.mp4", index=0).std() > 10
    agent = wm_agents.load(out / "agent.safetensors", device="cpu")
    assert agent.provenance["recipe"]["data"]["main"]["episodes"] == 8

    from wm_agents.training import run

    monkeypatch.setattr(run, "take_step", None)  # no step may be taken again
    weights = {name: value.clone() for name, value in agent.world_model.state_dict().items()}
    started = time.monotonic()
    second = call(*command)
    assert second.code == 0, second.err
    assert time.monotonic() - started < 60
    again = wm_agents.load(out / "agent.safetensors", device="cpu")
    assert all(np.array_equal(value, again.world_model.state_dict()[name]) for name, value in weights.items())
    head = again.heads["gc-idm"].state_dict()["head.weight"]
    assert np.array_equal(head, agent.heads["gc-idm"].state_dict()["head.weight"])
