"""Off-screen MuJoCo rendering: fast for small frames and many environments in a process, with clear errors.

This module never imports mujoco by itself, so that :func:`choose_backend` can run first.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import ctypes
import ctypes.util
import functools
import importlib.util
import os
import sys
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.envs.contexts import (
    HEADLESS,
    LOCK,
    OFF,
    WINDOWED,
    chosen_backend,
    create_context,
    drawing,
    has_display,
    misconfiguration,
)

if TYPE_CHECKING:
    import mujoco

INSTALL_COMMAND = "apt-get install -y --no-install-recommends libegl1 libgl1 libglib2.0-0"
"""What gives a bare Debian or Ubuntu machine a software renderer."""

HIDDEN_GROUP = 3
"""Geoms of this group are simulated and never drawn; sites of this group are drawn as markers, for people only."""

_LIBRARIES = {"egl": ("EGL", 1), "osmesa": ("OSMesa", 8)}
_CAMERA = ("type", "fixedcamid", "trackbodyid", "lookat", "distance", "azimuth", "elevation", "orthographic")
_DRIVER_VARIABLES = (
    *("MUJOCO_EGL_DEVICE_ID", "EGL_PLATFORM", "__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS"),
    *("LIBGL_DRIVERS_PATH", "GALLIUM_DRIVER", "MESA_LOADER_DRIVER_OVERRIDE"),
)
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


class RendererUnavailableError(RuntimeError):
    """This machine has no off-screen renderer; the message says what to install or set."""


def choose_backend() -> str:
    """Choose MuJoCo's OpenGL backend if the user has not, and return the choice.

    On Linux without a display, ``MUJOCO_GL`` becomes ``egl``, or ``osmesa`` if only that is installed. If the library
    of the backend is missing, it becomes ``disable``, so that mujoco can be imported and environments without images
    work. Mesa's software rasteriser gets no threads of its own (``LP_NUM_THREADS=0``). Small frames are then faster,
    and a worker forked from a process that has rendered does not hang. Variables that the user has set do not change.
    This must run before mujoco is imported; ``import wm_agents`` does it.

    Returns:
        The value of ``MUJOCO_GL``; empty if MuJoCo's own default is used.
    """
    if sys.platform.startswith("linux"):
        os.environ.setdefault("LP_NUM_THREADS", "0")
        chosen = chosen_backend()
        if chosen not in (*HEADLESS, *WINDOWED, *OFF):
            warnings.warn(f"MUJOCO_GL={chosen!r} is ignored: use egl, osmesa, glfw or disable.", stacklevel=2)
            del os.environ["MUJOCO_GL"]
            chosen = ""
        wanted = [chosen] if chosen else [] if has_display() else list(_LIBRARIES)
        if set(wanted) <= set(_LIBRARIES) and wanted:
            found = next((backend for backend in wanted if _installed(backend)), "disable")
            if chosen and found != chosen:
                missing = "lib{}.so.{}".format(*_LIBRARIES[chosen])
                warnings.warn(f"MUJOCO_GL={chosen!r} is ignored: {missing} is not installed.", stacklevel=2)
            os.environ["MUJOCO_GL"] = found
            if found in HEADLESS:
                os.environ.setdefault(
                    "PYOPENGL_PLATFORM", found
                )  # else it chooses for itself where it is imported first
    return os.environ.get("MUJOCO_GL", "")


def _installed(backend: str) -> bool:
    stem, version = _LIBRARIES[backend]
    try:
        ctypes.CDLL(f"lib{stem}.so.{version}")
    except OSError:
        return ctypes.util.find_library(stem) is not None
    return True


class FrameRenderer:
    """Draws square uint8 frames of one model from one camera.

    Each image size has its own context, created at the first frame of that size. Textures, shadows, reflections and
    multisampling are off: at 64 x 64 they cost more than all the rest. Any thread may draw. The OpenGL context that was
    current before is current afterwards, so other renderers of the process are not disturbed. Copies and pickles
    create their own contexts.

    Args:
        model: The model; its rendering quality settings are lowered in place.
        camera: The camera.
    """

    def __init__(self, model: mujoco.MjModel, camera: mujoco.MjvCamera) -> None:
        self._model = model
        self._camera = camera
        self._screens: dict[int, _Screen] = {}
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0

    def render(self, data: mujoco.MjData, size: int, *, markers: bool = False) -> np.ndarray:
        """Return the frame of ``data``, whose positions must be up to date (``mj_kinematics``).

        Args:
            data: The simulation state to draw. If several threads use it, hold
                :data:`~wm_agents.envs.contexts.LOCK` from the first change to the end of this call.
            size: Height and width in pixels.
            markers: Draw the sites of :data:`HIDDEN_GROUP` too.

        Returns:
            uint8 ``[size, size, 3]``.

        Raises:
            RendererUnavailableError: No renderer can be created here.
        """
        if size not in self._screens:
            _check_backend()
        with drawing():
            if size not in self._screens:
                self._screens[size] = self._open_screen(size)
            return self._screens[size].draw(data, self._camera, markers)

    def _open_screen(self, size: int) -> _Screen:
        _load_triton_first()
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        try:
            screen = _Screen(self._model, size)
        except Exception as error:
            raise _unavailable(f"{error}\n{_cure()}") from error
        _close_at_exit()
        _open.add(self)
        return screen

    def close(self) -> None:
        """Free every context; other renderers of the process keep working. A later :meth:`render` opens a new one."""
        with LOCK:
            while self._screens:
                _, screen = self._screens.popitem()
                with drawing():
                    screen.close()

    def __getstate__(self) -> dict[str, Any]:
        camera = {name: copy.copy(getattr(self._camera, name)) for name in _CAMERA}  # MuJoCo's class cannot be pickled
        return {"_model": self._model, "_camera": camera}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import mujoco

        self._model, self._camera, self._screens = state["_model"], mujoco.MjvCamera(), {}
        for name, value in state["_camera"].items():
            setattr(self._camera, name, value)

    def __del__(self) -> None:
        if "_screens" in self.__dict__:  # not so if it could not be made, copied or unpickled
            self.close()


class _Screen:
    """A square off-screen buffer in a context of its own; use it within :func:`~wm_agents.envs.contexts.drawing`."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        import mujoco

        self._model, self._size = model, size
        self._option = mujoco.MjvOption()
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = False
        self._area = mujoco.MjrRect(0, 0, size, size)
        self._context = create_context(size)
        try:
            self._context.make_current()
            self._buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._buffers)
        except BaseException:
            self._context.free()
            raise

    def draw(self, data: mujoco.MjData, camera: mujoco.MjvCamera, markers: bool) -> np.ndarray:
        """Return the frame, uint8 ``[size, size, 3]``."""
        import mujoco

        frame = np.empty((self._size, self._size, 3), np.uint8)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        self._option.sitegroup[HIDDEN_GROUP] = markers
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, self._scene)
        self._context.make_current()
        mujoco.mjr_render(self._area, self._scene, self._buffers)
        mujoco.mjr_readPixels(frame, None, self._area, self._buffers)
        return np.ascontiguousarray(frame[::-1])

    def close(self) -> None:
        """Free the buffers, in their own context, and then the context."""
        try:
            self._context.make_current()
            self._buffers.free()
            self._context.free()
        except BaseException:
            self._context._context = None  # its display is gone; MuJoCo would try again and print an error
            raise


def _check_backend() -> None:
    """Raise an error if the variables alone show that nothing can be drawn."""
    problem = misconfiguration()
    if problem:
        raise _unavailable(problem)
    if chosen_backend() in OFF:
        installed = [backend for backend in HEADLESS if _installed(backend)]
        found = f"MUJOCO_GL={installed[0]} can be used" if installed else "no OpenGL library is installed"
        raise _unavailable(f"rendering is switched off, and {found}.\n{_cure()}")


def _cure() -> str:
    """Return what to install, and which variables might be at fault."""
    names = (*_DRIVER_VARIABLES, *(_DISPLAYS if chosen_backend() in WINDOWED else ()))
    found = [f"{name}={os.environ[name]!r}" for name in names if os.environ.get(name)]
    suspects = f"First unset what changes the choice of the driver: {', '.join(found)}.\n" if found else ""
    return f"{suspects}On Debian or Ubuntu run\n    {INSTALL_COMMAND}\nand start again with MUJOCO_GL=egl."


def _unavailable(problem: str) -> RendererUnavailableError:
    return RendererUnavailableError(
        f"Cannot render images here (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}): {problem} "
        "Without images, obs_type='state' works."
    )


@functools.cache
def _load_triton_first() -> None:
    """Load Triton's library, if it is installed (it comes with PyTorch's CUDA builds), before OpenGL's.

    Both Mesa's software rasteriser and Triton contain a copy of LLVM. If Mesa's is loaded first, loading Triton, which
    PyTorch does when it makes an optimiser, crashes the process.
    """
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        with contextlib.suppress(OSError):
            ctypes.CDLL(os.path.join(folder, "_C", "libtriton.so"))


_open: weakref.WeakSet[FrameRenderer] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    # Registered after the first context, hence after OpenGL's own exit handler: handlers run last in, first out.
    atexit.register(_close_all)


def _close_all() -> None:
    for renderer in list(_open):
        while renderer._screens:  # each fails where another library has closed the display first
            with contextlib.suppress(Exception):
                renderer.close()
