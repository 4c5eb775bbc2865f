"""OpenGL contexts that restore the calling thread's context, so that other renderers can use it.

A thread has one current context, and other renderers rely on theirs. For example, Gymnasium's makes its own context
current only when it is created. :func:`drawing` therefore restores what was current before. It also makes
contexts independent of threads, since a context can be used anywhere while it is current nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from wm_agents.registry import did_you_mean

OFF = ("disable", "disabled", "off", "false", "0")
"""Values of ``MUJOCO_GL`` that switch rendering off."""
WINDOWED = ("", "glfw", "glx", "enable", "enabled", "on", "true", "1")
"""Values of ``MUJOCO_GL`` that draw in a hidden window on Linux, which takes a display."""
HEADLESS = ("egl", "osmesa")
"""Values of ``MUJOCO_GL`` that need no display."""

LOCK = threading.RLock()
"""Held by the thread that draws, and by whatever else uses the data that are drawn."""
if hasattr(os, "register_at_fork"):  # a child that is forked while another thread draws finds the lock free
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


def chosen_backend() -> str:
    """Return ``MUJOCO_GL`` as MuJoCo reads it."""
    return os.environ.get("MUJOCO_GL", "").strip().lower()


def has_display() -> bool:
    """Return whether the environment names a display."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def misconfiguration() -> str:
    """Return what is wrong with the variables that choose an OpenGL backend and how to fix it, or an empty text."""
    backend, platform = chosen_backend(), os.environ.get("PYOPENGL_PLATFORM", "").lower()
    if backend not in (*HEADLESS, *WINDOWED, *OFF):
        return did_you_mean("value of MUJOCO_GL", backend, (*HEADLESS, "glfw", "disable"))
    if backend in HEADLESS and platform not in ("", backend) and f"mujoco.{backend}" not in sys.modules:
        return (
            f"PYOPENGL_PLATFORM={platform!r} contradicts MUJOCO_GL={backend!r}: both must name the same backend. "
            "Unset PYOPENGL_PLATFORM and start Python again."
        )
    loaded = type(getattr(sys.modules.get("OpenGL.platform"), "PLATFORM", None)).__name__
    if backend in HEADLESS and loaded not in ("NoneType", {"egl": "EGLPlatform", "osmesa": "OSMesaPlatform"}[backend]):
        return (
            f"PyOpenGL was imported before wm_agents and loaded {loaded}, which contradicts MUJOCO_GL={backend!r}. "
            f"Import wm_agents first, or set PYOPENGL_PLATFORM={backend} before Python starts."
        )
    device = os.environ.get("MUJOCO_EGL_DEVICE_ID", "0").strip()
    if backend == "egl" and not device.isdecimal():
        return f"MUJOCO_EGL_DEVICE_ID={device!r} must be the number of a device. Unset it, or set it to 0."
    if sys.platform.startswith("linux") and backend in WINDOWED and not has_display():
        return (
            f"MUJOCO_GL={backend!r} needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set. "
            "Set MUJOCO_GL=egl, or unset it, and start Python again."
        )
    return ""


def create_context(size: int) -> Any:
    """Return a new OpenGL context of MuJoCo's for frames of ``size`` pixels.

    The backend is what ``MUJOCO_GL`` says when the process draws for the first time, also where mujoco was imported
    before it was set.
    """
    backend = _backend_in_use()
    kind = backend if backend in HEADLESS else "cgl" if sys.platform == "darwin" else "glfw"
    return importlib.import_module(f"mujoco.{kind}").GLContext(size, size)


@functools.cache
def _backend_in_use() -> str:
    return chosen_backend()  # for good: PyOpenGL loads one backend per process


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Hold :data:`LOCK`, and restore at the end the context that was current at the beginning, if any."""
    with LOCK:
        restore = capture()
        try:
            yield
        finally:
            restore()


def capture() -> Callable[[], None]:
    """Return a function that makes the context current again that is current now; or none, if none is."""
    return _capturing()()


@functools.cache
def _capturing() -> Callable[[], Callable[[], None]]:
    """How to capture the current context; without MuJoCo there is none that this library could disturb."""
    if importlib.util.find_spec("mujoco") is None:
        return _capture_nothing
    return _CAPTURES.get(_backend_in_use(), _capture_nothing)


def _capture_egl() -> Callable[[], None]:
    importlib.import_module("mujoco.egl")  # tells PyOpenGL which platform to load
    from OpenGL import EGL

    api = EGL.eglQueryAPI()
    EGL.eglBindAPI(EGL.EGL_OPENGL_API)  # "current" is about the bound API, and a new thread has OpenGL ES bound
    context = EGL.eglGetCurrentContext()
    if context:
        display = EGL.eglGetCurrentDisplay()
        surfaces = EGL.eglGetCurrentSurface(EGL.EGL_DRAW), EGL.eglGetCurrentSurface(EGL.EGL_READ)

    def restore() -> None:
        EGL.eglBindAPI(EGL.EGL_OPENGL_API)
        restored = False
        if context:
            with contextlib.suppress(EGL.EGLError):  # its owner may have destroyed it in the meantime
                restored = bool(EGL.eglMakeCurrent(display, *surfaces, context))
        if not restored and EGL.eglGetCurrentContext():
            nothing = EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE, EGL.EGL_NO_CONTEXT
            EGL.eglMakeCurrent(EGL.eglGetCurrentDisplay(), *nothing)
        EGL.eglBindAPI(api)

    return restore


def _capture_osmesa() -> Callable[[], None]:
    importlib.import_module("mujoco.osmesa")  # tells PyOpenGL which platform to load
    from OpenGL import GL, osmesa

    context = osmesa.OSMesaGetCurrentContext()
    if not context:
        return lambda: osmesa.OSMesaMakeCurrent(None, None, GL.GL_FLOAT, 0, 0)
    width, height, _, buffer = osmesa.OSMesaGetColorBuffer(context)
    kind = osmesa.OSMesaGetIntegerv(osmesa.OSMESA_TYPE)
    return lambda: osmesa.OSMesaMakeCurrent(context, buffer, kind, width, height)


def _capture_glfw() -> Callable[[], None]:
    import glfw

    glfw.init()  # nothing happens if it has been done before
    window = glfw.get_current_context()
    return lambda: glfw.make_context_current(window)


def _capture_nothing() -> Callable[[], None]:
    return lambda: None


_CAPTURES: dict[str, Callable[[], Callable[[], None]]] = {"egl": _capture_egl, "osmesa": _capture_osmesa}
if not sys.platform.startswith("darwin"):
    _CAPTURES |= dict.fromkeys(WINDOWED, _capture_glfw)
