"""A package with parts of its own is installed: they work in the command and in ``load``, and are missed by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "plugin"
WEIGHTS = '{"prediction": 1, "sigreg": 0.09, "straightness": {"weight": 0.1, "power": 2}}'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the installed plug-in in ``site``; wm-agents and all else come from this environment."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    quiet = ["--quiet", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", folder / "source", *quiet, "--wheel-dir", folder / "wheel"], check=True, timeout=120)
    (wheel,) = (folder / "wheel").glob("*.whl")
    subprocess.run([*pip, "install", wheel, *quiet, "--no-index", "--target", folder / "site"], check=True, timeout=120)
    return folder


def run(place, *command, plugin=True):
    """Run a command where the plug-in is installed, or is not; return the exit status and what was said."""
    settings = {"MINARI_DATASETS_PATH": str(place / "data"), "COLUMNS": "200"}
    settings |= {"PYTHONPATH": str(place / "site")} if plugin else {}
    (place / "data").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_plugin_works_in_the_command_and_in_load_and_is_missed_by_name(place):
    cli, out, short = ("-m", "wm_agents.cli"), ("--out", "run"), ("--training", "steps=6", "batch_size=8")
    tasks = ("--tasks", "2", "--offset", "5", "--json", "result.json")
    for command in (
        ("collect", "example/Boat-v0", "--episodes", "6", "--steps", "40", "--name", "demo/boat-v0"),
        ("train", "demo/boat-v0", *out, "--model", "encoder=tiny", "latent_size=8", *short, f"loss_weights={WEIGHTS}"),
        ("fit", "probe", "run/world-model.safetensors", "demo/boat-v0", *out, *short),
        ("fit", "gc-idm", "run/agent.safetensors", "demo/boat-v0", *out, *short),
        ("evaluate", "run/agent.safetensors:best-of-n", *tasks, "--options", "samples=8", "horizon=2"),
    ):
        code, said = run(place, *cli, *command)
        assert code == 0, said
    assert (place / "result.json").exists()
    script = """
import wm_agents
agent = wm_agents.load("run/agent.safetensors", agent="best-of-n", samples=8)
print(sorted(agent.heads), agent.world_model.config.encoder, agent.env_id)
print(wm_agents.load("pointmaze-umaze/best-of-n", samples=4).name)
"""
    code, said = run(place, "-c", script)
    assert code == 0, said
    assert "['gc-idm', 'probe'] tiny example/Boat-v0" in said
    code, said = run(place, "-c", "import wm_agents; wm_agents.load('run/agent.safetensors')", plugin=False)
    assert code != 0
    assert "wm-agents-example 1.0" in said.splitlines()[-1]
    code, said = run(place, *cli, "evaluate", "run/agent.safetensors", plugin=False)
    assert code == 2
    assert "wm-agents-example 1.0" in said
    assert "Traceback" not in said


def test_the_plugin_stays_small():
    files = [*SOURCE.glob("*.toml"), *SOURCE.glob("*/*.py")]
    assert len(files) == 4
    assert sum(len(file.read_text().splitlines()) for file in files) < 150
