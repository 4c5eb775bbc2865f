"""The wheel holds the whole package and nothing else, and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import wm_agents.envs

ROOT = Path(__file__).resolve().parents[2]
# `python -S` sees nothing that is installed; this gives the dependencies back, without .pth files.
LIBRARIES = os.pathsep.join(path for path in sys.path if "packages" in path)
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
def checkout(tmp_path_factory):
    """A copy of the checkout: this one stays clean, and nothing stale gets into the wheel."""
    source = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "examples", "docs"):
        (source / name).mkdir()
    return source


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel, built without network."""
    out = tmp_path_factory.mktemp("wheel")
    command = ("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    code, said = run(sys.executable, *command, cwd=checkout)
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
assert {{f"{{task}}/{{agent}}" for task in tasks for agent in ("cem", "gc-idm")}} <= set(names), names
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


def test_installed_package_collects_in_the_folder_of_a_checkout(installed, tmp_path):
    """What `wm-agents quickstart` does after `pip install .`: its worker processes must not find the checkout."""
    (tmp_path / "script.py").write_text(
        "from wm_agents.datasets import collect\n"
        "collect('wm/PointMaze-UMaze-v0', episodes=2, steps=5, workers=2, name='test/small-v0', progress=False)\n"
        "print('all well')\n"
    )
    folder = str(tmp_path / "minari")
    code, said = run(
        sys.executable,
        tmp_path / "script.py",
        cwd=ROOT,
        PYTHONPATH=str(installed),
        MINARI_DATASETS_PATH=folder,
    )
    assert code == 0, said
    assert "all well" in said


def check_names(site, package, cwd):
    """With only ``site`` and the dependencies installed, ``package`` and no other folder of ours is importable."""
    script = f"""
import importlib.util
import pathlib
import site
site.addsitedir({str(site)!r})  # reads the .pth file of an editable installation, as Python does when it starts
import wm_agents, wm_agents.envs, wm_agents.datasets
for module in (wm_agents, wm_agents.envs, wm_agents.datasets):
    assert pathlib.Path(module.__file__).is_relative_to({str(package)!r}), module.__file__
for name in ("wm_agents.tests", "wm_agents.examples", "wm_agents.docs", "envs"):
    assert importlib.util.find_spec(name) is None, name
other = importlib.util.find_spec("datasets")
assert other is None or not pathlib.Path(other.origin).is_relative_to({str(package)!r}), other.origin
print("all well")
"""
    path = os.pathsep.join((str(site), LIBRARIES))
    code, said = run(sys.executable, "-S", "-c", script, cwd=cwd, PYTHONPATH=path)
    assert code == 0, said
    assert "all well" in said


def test_wheel_brings_no_other_importable_name(installed, tmp_path):
    check_names(installed, installed, tmp_path)


def test_editable_installation_brings_no_other_importable_name(checkout, tmp_path):
    site = tmp_path / "site"
    command = ("-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation", "--target", site)
    code, said = run(sys.executable, *command, "--editable", checkout, cwd=tmp_path)
    assert code == 0, said
    (tmp_path / "empty").mkdir()
    check_names(site, checkout, tmp_path / "empty")


@pytest.mark.parametrize("folder", ["envs", "datasets"])
def test_bare_names_are_refused(folder):
    code, said = run(sys.executable, "-c", f"import {folder}", cwd=ROOT)
    assert code != 0
    assert f"wm_agents.{folder}" in said


def test_bare_checkout_says_how_to_install_it(checkout, tmp_path):
    path = os.pathsep.join((str(checkout), LIBRARIES))
    code, said = run(sys.executable, "-S", "-c", "import wm_agents", cwd=tmp_path, PYTHONPATH=path)
    assert code != 0
    assert "ImportError" in said
    assert f"`pip install -e .` in {checkout}" in said


def test_two_checkouts_are_never_mixed(checkout, tmp_path):
    """The other checkout's ``wm_agents`` would take ``envs`` and ``datasets`` from the one that is installed."""
    if not (ROOT / "envs").samefile(Path(wm_agents.envs.__file__).parent):
        pytest.skip("this checkout is not installed in editable mode")
    code, said = run(sys.executable, "-c", "import wm_agents", cwd=tmp_path, PYTHONPATH=str(checkout))
    assert code != 0
    assert f"`pip install -e .` in {checkout}" in said
