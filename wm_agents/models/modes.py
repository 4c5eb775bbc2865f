"""Torch's global modes: settings of the calling code must not affect this library."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


def prediction_modes(device: torch.device | str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """No gradients, no inference mode, no autocast, float32, and no default device, whatever the caller has set."""
    kind, dtype = torch.device(device).type, torch.get_default_dtype()
    entered: list[contextlib.AbstractContextManager[Any]] = []  # only those that must be left: every decision does this
    if dtype is not torch.float32:
        entered.append(_default_dtype(torch.float32))
    if torch.get_default_device().type != "cpu":
        entered.append(torch.device("cpu"))
    if torch.is_inference_mode_enabled():
        entered.append(torch.inference_mode(False))
    if torch.is_autocast_enabled(kind):
        entered.append(torch.autocast(kind, enabled=False))
    return _all_of(*entered, torch.no_grad()) if entered else torch.no_grad()


@contextlib.contextmanager
def _all_of(*modes: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        yield


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def ordinary(module: M) -> M:
    """The module, or a copy if it was made under inference mode, because such weights cannot have gradients."""
    if not any(value.is_inference() for value in itertools.chain(module.parameters(), module.buffers())):
        return module
    with torch.inference_mode(False):
        return copy.deepcopy(module)


class limited(TorchFunctionMode):  # noqa: N801 - a context manager, as torch.no_grad
    """Refuses to make too many or too large tensors, so that a hostile file cannot fill the memory.

    Args:
        numbers: Elements of the largest tensor.
        calls: Of torch's functions.
    """

    def __init__(self, numbers: int, calls: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls -= 1
        sizes = [n for value in args for n in (value if isinstance(value, list | tuple) else (value,))]
        asked = math.prod(n for n in sizes if isinstance(n, int) and n > 0)
        result = func(*args, **(kwargs or {})) if asked <= self.numbers else None
        if (
            asked > self.numbers
            or self.calls < 0
            or (isinstance(result, torch.Tensor) and result.numel() > self.numbers)
        ):
            raise ValueError("its configuration asks for far larger networks than it has weights for")
        return result
