"""The wheel holds the whole package and nothing else, and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"envs": "wm_agents/envs", "datasets": "wm_agents/datasets", "wm_agents": "wm_agents"}


def run(*command, cwd, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays clean and nothing stale gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code, said = run(
        sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", out, cwd=source
    )  # fmt: skip
    assert code == 0, said
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A directory with the installed wheel, to be put on PYTHONPATH; dependencies come from this environment."""
    target = tmp_path_factory.mktemp("installed")
    code, said = run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=target
    )
    assert code == 0, said
    return target


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_wheel_holds_every_module(names):
    expected = {
        f"{mapped}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, mapped in MAPPED.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == expected


def test_wheel_installs_one_package_only(names):
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"wm_agents"}


def test_wheel_holds_data_files(names):
    checkpoints = {f"wm_agents/checkpoints/{path.name}" for path in (ROOT / "wm_agents/checkpoints").glob("*.safet*")}
    assert {"wm_agents/py.typed", "wm_agents/checkpoints/SHA256SUMS"} | checkpoints <= names


def test_installed_package_works_outside_the_checkout(installed, tmp_path):
    script = f"""
import pathlib
import gymnasium as gym
import wm_agents
assert pathlib.Path(wm_agents.__file__).is_relative_to({str(installed)!r}), wm_agents.__file__
import wm_agents.datasets, wm_agents.envs, wm_agents.evaluation, wm_agents.cli
names = wm_agents.list_checkpoints()
tasks = ("pointmaze-large", "pointmaze-medium", "pointmaze-umaze", "tworoom", "reacher", "pusht", "cube-single")
assert {{f"{{task}}/{{agent}}" for task in tasks for agent in ("cem-mpc", "gc-idm")}} <= set(names), names
for name in names:
    agent = wm_agents.load(name)
    assert gym.spec(agent.env_id)
for env_id in wm_agents.envs.ENV_IDS:
    gym.make(env_id, obs_type="state").reset(seed=0)
env = gym.make("wm/PointMaze-UMaze-v0")
agent = wm_agents.load("pointmaze-umaze/gc-idm", env=env)
action, state = agent.predict(env.reset(seed=0)[0])
assert env.action_space.contains(action)
print("all well")
"""
    code, said = run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(installed))
    assert code == 0, said
    assert "all well" in said


def test_command_starts(installed, tmp_path):
    code, said = run(sys.executable, "-m", "wm_agents.cli", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert code == 0, said
    assert "quickstart" in said


@pytest.mark.parametrize("folder", ["envs", "datasets"])
def test_bare_names_are_refused(folder):
    code, said = run(sys.executable, "-c", f"import {folder}", cwd=ROOT)
    assert code != 0
    assert f"wm_agents.{folder}" in said


def test_bare_checkout_works_without_installing(tmp_path):
    # -S hides site-packages' editable hooks; PYTHONPATH gives the dependencies back.
    libraries = os.pathsep.join(path for path in sys.path if "packages" in path)
    script = """
import wm_agents, wm_agents.envs, wm_agents.datasets
print(wm_agents.envs.__file__, wm_agents.datasets.__file__)
"""
    code, said = run(sys.executable, "-S", "-c", script, cwd=ROOT, PYTHONPATH=libraries)
    assert code == 0, said
    assert said.split()[-2:] == [str(ROOT / "envs/__init__.py"), str(ROOT / "datasets/__init__.py")]
