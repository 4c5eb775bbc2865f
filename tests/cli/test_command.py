"""The command itself: output files, closed pipes, narrow terminals, devices, help, and modules of the user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wm_agents
from wm_agents import cli
from wm_agents.cli.common import app, full_id, plain_text

AGENT = "pointmaze-umaze/gc-idm"
SHORT = ("--tasks", "2", "--budget", "5", "--device", "cpu")


def command(*words: str, cwd: Path, tail: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, through a shell."""
    line = " ".join([sys.executable, "-m", "wm_agents.cli", *words]) + tail
    found = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(line, shell=True, cwd=cwd, env=found, capture_output=True, text=True, check=False)


def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: Any) -> str:
    """Run a command that fails in this process, and return its one line."""
    monkeypatch.setattr(sys, "argv", ["wm-agents", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_results_are_there_when_nobody_reads_the_output(tmp_path: Path) -> None:
    done = command(
        "evaluate", AGENT, *SHORT, "--json", "deep/er/x.json", "--video", "v/x.gif", cwd=tmp_path, tail=" | true"
    )
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert json.loads((tmp_path / "deep/er/x.json").read_text())["tasks"] == 2
    assert (tmp_path / "v/x.gif").stat().st_size > 0


@pytest.mark.parametrize("words", [("--help",), ("evaluate", "--help"), ("list", "envs"), ("--version",)])
def test_a_closed_pipe_ends_quietly(words: tuple[str, ...], tmp_path: Path) -> None:
    done = command(*words, cwd=tmp_path, tail=" | true")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_are_there_when_the_disk_of_the_output_is_full(tmp_path: Path) -> None:
    done = command("evaluate", AGENT, *SHORT, "--json", "x.json", cwd=tmp_path, tail=" > /dev/full")
    assert (tmp_path / "x.json").exists()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", ["40", "60", "80", "200"])
def test_piped_tables_are_whole(columns: str, tmp_path: Path) -> None:
    done = command("evaluate", AGENT, *SHORT, cwd=tmp_path, COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert done.stdout.count("% [") == 3  # two floors and the agent


@pytest.mark.parametrize("flag", ["--json", "--video", "--manifest"])
def test_outputs_are_checked_before_the_work(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wm_agents, "load", lambda *_, **__: pytest.fail("work began"), raising=False)
    suffix = ".gif" if flag == "--video" else ".json"
    (tmp_path / "file").write_text("")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "is a directory" in fails(capsys, monkeypatch, "evaluate", AGENT, flag, tmp_path / f"folder{suffix}")
    below = tmp_path / "file" / "deep" / f"x{suffix}"
    assert "is not a directory" in fails(capsys, monkeypatch, "evaluate", AGENT, flag, below)
    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    error = fails(capsys, monkeypatch, "evaluate", AGENT, flag, tmp_path / f"x{suffix}")
    assert "not writable (Permission denied)" in error


def denied(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "Permission denied")


def test_two_results_need_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    assert "need different files" in fails(capsys, monkeypatch, "evaluate", AGENT, "--json", path, "--manifest", path)


@pytest.mark.parametrize(
    "words", [("bench", "planners", "--quick"), ("report", "--quick"), ("study", "latent-actions", "--quick")]
)
def test_directories_are_checked_before_the_work(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "deep"):
        assert "is not a directory" in fails(capsys, monkeypatch, *words, "--out", path)


def test_the_version_is_one_line(tmp_path: Path) -> None:
    assert command("--version", cwd=tmp_path).stdout == f"wm-agents {wm_agents.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evalute", "x"), "Did you mean 'evaluate'"),
        (("trian",), "Did you mean 'train'"),
        (("evaluate", AGENT, "--device", "gpu"), "Unknown device 'gpu'"),
        (("evaluate", AGENT, "--device", "cuda:99"), "device cuda:99: torch finds"),
        (("train", "wm/x/y-v0", "--out", "x", "--device", "cuda:99"), "device cuda:99: torch finds"),
        (("evaluate", AGENT, "--device", "meta"), "Unknown device 'meta'"),
        (("evaluate", AGENT, "--task", "Pendulum-v1", "--device", "cpu"), "the agent's actions have shape"),
        (("evaluate", AGENT, "--task", "no_such_module:a/B-v0", "--device", "cpu"), "cannot import the module"),
        (("--import", "no_such_module", "list", "planners"), "--import no_such_module"),
        (("--import",), "needs the name of a module"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, monkeypatch, *words)


def test_modules_of_the_user_are_imported_first(tmp_path: Path) -> None:
    (tmp_path / "rooms_of_mine.py").write_text(
        "import gymnasium as gym\nimport wm_agents\nprint('imported', flush=True)\n"
        "gym.register('mine/Room-v0', 'wm_agents.envs.pointmaze:PointMaze', max_episode_steps=50,\n"
        "             kwargs=dict(gym.spec('wm/PointMaze-UMaze-v0').kwargs))\n"
    )
    (tmp_path / "other.py").write_text("print('the other', flush=True)\n")
    words = ("evaluate", AGENT, "--task", "mine/Room-v0", *SHORT, "--json", "x.json")
    done = command("--import", "rooms_of_mine", "--import=other", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported\nthe other\n")
    assert json.loads((tmp_path / "x.json").read_text())["env_id"] == "mine/Room-v0"
    assert "mine/Room-v0" in command("--import", "rooms_of_mine", "list", "envs", cwd=tmp_path).stdout


@pytest.mark.parametrize("name", ["", *app.commands])
def test_help_is_plain_text(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wm-agents", *name.split(), "--help"])
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "usage: wm-agents" in text
    for markup in ("``", ":func:", ":class:", ":data:", ":meth:", "\x1b[", "(default: )"):
        assert markup not in text
    widths = {len(line) for line in text.splitlines() if line.startswith(("│", "╭", "╰"))}
    assert len(widths) <= 1, "borders are straight"  # none where the terminal has no such characters


def test_roles_become_names_and_borders_stay():
    line = "│ See :func:`~wm_agents.evaluation.evaluate` and ``x``, :data:`NAMES`. │"
    plain = plain_text(line)
    assert plain.startswith("│ See evaluate and x, NAMES. ")
    assert len(plain) == len(line)


@pytest.mark.parametrize("words", [("compare", "pointmaze-umaz"), ("evaluate", AGENT, "--task", "pointmaze-umaz")])
def test_a_misspelled_task_name_finds_its_neighbour(capsys, monkeypatch, words):
    assert "Unknown task 'pointmaze-umaz'. Did you mean 'pointmaze-umaze'?" in fails(capsys, monkeypatch, *words)


def test_ids_that_look_like_task_names_stay_what_they_are():
    for name in ("pointmaze-medium-v0", "pusht-v0", "Reacher-v5", "CartPole"):
        assert full_id(name) == name
