"""Off-screen MuJoCo rendering: small frames fast, many environments in a process, clear errors.

This module never imports mujoco by itself, so that :func:`choose_backend` can run first.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ctypes.util
import functools
import importlib.util
import os
import sys
import warnings
import weakref
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

INSTALL_COMMAND = "apt-get install -y --no-install-recommends libegl1 libgl1 libglib2.0-0"
"""What gives a bare Debian or Ubuntu machine a software renderer."""

HIDDEN_GROUP = 3
"""Geoms of this group are simulated and never drawn; sites of this group are drawn as markers, for people only."""

_LIBRARIES = {"egl": ("EGL", 1), "osmesa": ("OSMesa", 8)}
_DISABLED = ("disable", "disabled", "off", "false", "0")
_BACKENDS = ("egl", "osmesa", "glfw", "enable", "enabled", "on", "true", "1", *_DISABLED)  # what MuJoCo knows


class RendererUnavailableError(RuntimeError):
    """No off-screen renderer can be had on this machine; the message says what to install or set."""


def choose_backend() -> str:
    """Choose MuJoCo's OpenGL backend where the user chose none, and return the choice.

    On Linux without a display ``MUJOCO_GL`` becomes ``egl``, or ``osmesa`` where only that is installed. Where the
    library of the backend is missing it becomes ``disable``, so that mujoco can be imported and environments without
    images work. Mesa's software rasteriser gets no threads of its own (``LP_NUM_THREADS=0``): small frames are faster
    that way, and a worker forked from a process that has rendered does not hang. What the user set is left alone. It
    must run before mujoco is imported; ``import wm_agents`` does it.

    Returns:
        The value of ``MUJOCO_GL``; empty where MuJoCo's own default is used.
    """
    if sys.platform.startswith("linux"):
        os.environ.setdefault("LP_NUM_THREADS", "0")
        chosen = os.environ.get("MUJOCO_GL", "").lower()
        if chosen and chosen not in _BACKENDS:
            warnings.warn(f"MUJOCO_GL={chosen!r} is ignored: use egl, osmesa, glfw or disable.", stacklevel=2)
            chosen = os.environ["MUJOCO_GL"] = ""
        has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        wanted = [chosen] if chosen else [] if has_display else list(_LIBRARIES)
        if set(wanted) <= set(_LIBRARIES) and wanted:
            os.environ["MUJOCO_GL"] = next((backend for backend in wanted if _installed(backend)), "disable")
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
    multisampling are off: at 64 x 64 they cost more than all the rest.

    Args:
        model: The model; its rendering quality settings are lowered in place.
        camera: Where to look from.
    """

    def __init__(self, model: mujoco.MjModel, camera: mujoco.MjvCamera) -> None:
        self._model = model
        self._camera = camera
        self._renderers: dict[int, mujoco.Renderer] = {}
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0

    def render(self, data: mujoco.MjData, size: int, *, markers: bool = False) -> np.ndarray:
        """Return the frame of ``data``, whose positions must be up to date (``mj_kinematics``).

        Args:
            data: The simulation state to draw.
            size: Height and width in pixels.
            markers: Draw the sites of :data:`HIDDEN_GROUP` too.

        Returns:
            uint8 ``[size, size, 3]``.

        Raises:
            RendererUnavailableError: No renderer can be created here.
        """
        import mujoco

        renderer = self._renderers.get(size) or self._create(size)
        option = mujoco.MjvOption()
        option.sitegroup[HIDDEN_GROUP] = markers
        renderer.update_scene(data, self._camera, option)
        return renderer.render()

    def _create(self, size: int) -> mujoco.Renderer:
        import mujoco

        _load_triton_first()
        backend = os.environ.get("MUJOCO_GL", "")
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        try:
            if backend in _DISABLED:
                raise RuntimeError("the OpenGL library is missing, or rendering is switched off")
            renderer = mujoco.Renderer(self._model, height=size, width=size, max_geom=200)
        except Exception as error:
            raise RendererUnavailableError(
                f"Cannot render images here (MUJOCO_GL={backend!r}): {error}\n"
                f"On Debian or Ubuntu run\n    {INSTALL_COMMAND}\n"
                "and start again with MUJOCO_GL unset or MUJOCO_GL=egl. If mujoco was imported before wm_agents, "
                "import wm_agents first. Without images, obs_type='state' works."
            ) from error
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
        ):
            renderer.scene.flags[flag] = False
        self._renderers[size] = renderer
        _close_at_exit()
        _open.add(self)
        return renderer

    def close(self) -> None:
        """Free every context; other renderers of the process go on. A later :meth:`render` opens a new one."""
        while self._renderers:
            _, renderer = self._renderers.popitem()
            # Freeing textures and buffers acts on the *current* context: make sure that it is the one that closes.
            if renderer._gl_context:
                renderer._gl_context.make_current()
            renderer.close()

    def __del__(self) -> None:
        self.close()


@functools.cache
def _load_triton_first() -> None:
    """Load Triton's library, where it is installed (PyTorch's CUDA builds bring it), ahead of OpenGL's.

    Both Mesa's software rasteriser and Triton hold a copy of LLVM. If Mesa's is loaded first, loading Triton, which
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
        with contextlib.suppress(Exception):
            renderer.close()
