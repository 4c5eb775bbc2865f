"""Which OpenGL backend is used, and what is said where the variables that choose it are wrong."""

from __future__ import annotations

import ctypes.util
import os
import re
import subprocess
import sys

import gymnasium as gym
import pytest

from wm_agents.envs import RendererUnavailableError, rendering
from wm_agents.envs.contexts import misconfiguration


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let MuJoCo write its log, about Gymnasium's models, where it is in nobody's way."""
    monkeypatch.chdir(tmp_path)


OSMESA = """
import gymnasium as gym, numpy as np, wm_agents
from concurrent.futures import ThreadPoolExecutor

other = gym.make("HalfCheetah-v5", render_mode="rgb_array")
other.reset(seed=0)
before = other.render()
assert before.std() > 1
from OpenGL import osmesa

def current():
    context = osmesa.OSMesaGetCurrentContext()
    return context and context.address

context = current()
assert context
ours = gym.make("wm/TwoRoom-v0", render_mode="rgb_array")
first = ours.reset(seed=0)[0]["pixels"]
assert first.std() > 1
assert current() == context
assert (other.render() == before).all()
with ThreadPoolExecutor(1) as pool:
    assert (pool.submit(ours.reset, seed=0).result()[0]["pixels"] == first).all()
    assert not pool.submit(current).result()
ours.close()
assert (other.render() == before).all()
assert (ours.reset(seed=0)[0]["pixels"] == first).all()
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process whose OpenGL variables are these alone."""
    chosen = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {key: value for key, value in os.environ.items() if key not in chosen}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(ctypes.util.find_library("OSMesa") is None, reason="needs libosmesa6")
def test_osmesa():
    done = run(OSMESA, MUJOCO_GL="osmesa")
    assert done.returncode == 0, done.stderr


DRAW = """
{first}
import gymnasium as gym, wm_agents
{then}
try:
    assert gym.make("wm/TwoRoom-v0").reset(seed=0)[0]["pixels"].std() > 1
except wm_agents.envs.RendererUnavailableError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the backend is chosen on Linux only")
@pytest.mark.parametrize(
    ("variables", "first", "then", "said"),
    [
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "glx"}, "", "", "Unset PYOPENGL_PLATFORM"),
        ({"PYOPENGL_PLATFORM": "osmesa", "MUJOCO_GL": "egl"}, "", "", "'osmesa' contradicts MUJOCO_GL='egl'"),
        ({"MUJOCO_GL": "glfw"}, "", "", "neither DISPLAY nor WAYLAND_DISPLAY is set. Set MUJOCO_GL=egl"),
        ({"MUJOCO_GL": "disable"}, "", "", "switched off, and MUJOCO_GL=egl can be used.*apt-get install"),
        ({"MUJOCO_EGL_DEVICE_ID": "gpu"}, "", "", "MUJOCO_EGL_DEVICE_ID='gpu' must be the number"),
        ({"MUJOCO_EGL_DEVICE_ID": "99"}, "", "", "First unset.*driver: MUJOCO_EGL_DEVICE_ID='99'"),
        ({}, "", "import mujoco, os; os.environ['MUJOCO_GL'] = 'eggl'", "Did you mean 'egl'"),
        ({"MUJOCO_GL": "elg"}, "import warnings; warnings.simplefilter('ignore')", "", None),
        ({"MUJOCO_GL": " EGL "}, "", "", None),
        ({"PYOPENGL_PLATFORM": "egl"}, "", "", None),
        ({}, "import OpenGL.GL", "", "Import wm_agents first, or set PYOPENGL_PLATFORM=egl"),
        ({}, "", "import OpenGL.GL", None),
        ({"PYOPENGL_PLATFORM": "egl"}, "import OpenGL.GL", "", None),
        ({}, "import mujoco", "", None),  # mujoco was imported first and chose a backend that needs a display
        ({"MUJOCO_GL": "glfw"}, "", "import os; os.environ['MUJOCO_GL'] = 'egl'", None),
    ],
)
def test_misconfigured_variables_are_named_with_the_way_out(variables, first, then, said):
    done = run(DRAW.format(first=first, then=then), **variables)
    assert done.returncode == 0, done.stderr
    if said is None:
        assert done.stdout == ""
    else:
        assert re.search(said, done.stdout, re.DOTALL), done.stdout


def test_a_backend_without_its_library_is_named(monkeypatch):
    monkeypatch.setattr(rendering, "_installed", lambda backend: False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.warns(UserWarning, match=r"MUJOCO_GL='osmesa' is ignored: libOSMesa.so.8 is not installed"):
        assert rendering.choose_backend() == "disable"
    with pytest.raises(RendererUnavailableError, match="apt-get install"):
        gym.make("wm/TwoRoom-v0").reset(seed=0)


def test_nothing_is_wrong_here():
    assert misconfiguration() == ""


@pytest.mark.parametrize(("version", "fits"), [("3.3.2", False), ("3.2", False), ("3.3.3", True), ("4.0.0", False)])
def test_the_doctor_knows_which_mujoco_is_needed(monkeypatch, version, fits):
    from wm_agents import doctor

    monkeypatch.setattr(doctor, "versions", lambda: {"mujoco": version})
    if fits:
        assert doctor._versions() == f"mujoco {version}"
        return
    with pytest.raises(RuntimeError, match=r"pip install .mujoco>=3\.3\.3,<4"):
        doctor._versions()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the backend is chosen on Linux only")
def test_the_doctor_names_a_contradiction_and_the_way_out():
    code = "import sys; from wm_agents.cli import main; sys.argv[1:] = ['doctor']; main()"
    done = run(code, MUJOCO_GL="egl", PYOPENGL_PLATFORM="glx")
    assert done.returncode == 1, done.stderr
    assert "Unset PYOPENGL_PLATFORM" in done.stdout
    assert "apt-get" not in done.stdout


LEFT_OPEN = """
import gymnasium as gym, wm_agents
from dm_control import suite

ours = gym.make("wm/TwoRoom-v0", render_mode="rgb_array")
ours.reset(seed=0)
ours.render()
theirs = suite.load("cartpole", "balance")
theirs.reset()
theirs.physics.render(64, 64)  # closes the display at exit, before ours are closed
"""


@pytest.mark.parametrize("drawn_last", ["", "gym.make('wm/TwoRoom-v0').reset(seed=0)"])
def test_what_is_left_open_ends_quietly(drawn_last):
    done = run(LEFT_OPEN + drawn_last)
    assert done.returncode == 0
    assert done.stderr == ""
