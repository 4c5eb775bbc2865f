"""Where training runs, and in which of torch's modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import deterministic

from wm_agents.registry import did_you_mean


def find_device(device: torch.device | str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU if torch finds one, otherwise the CPU.

    Raises:
        ValueError: There is no such device. It does not fall back to the CPU, which might take hours longer.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(did_you_mean("device", str(device), ("auto", "cpu", "cuda"))) from None
    if found.type not in ("cpu", "cuda", "mps"):
        raise ValueError(did_you_mean("device", str(device), ("auto", "cpu", "cuda")))
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(found.type, 1)
    if (found.index or 0) >= count:
        raise ValueError(
            f"device {device}: torch finds {count or 'no'} such device{'' if count == 1 else 's'} here. Use cpu, or "
            "auto for a GPU where there is one."
        )
    return found


@contextlib.contextmanager
def own_modes(device: torch.device) -> Iterator[None]:
    """Turn gradients on and use float32, whatever the caller has set; on a CPU, make sums independent of threads.

    Without the latter, gradients of indexed tensors are added up in the order in which the threads arrive.
    """
    memory: Any = deterministic
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill, dtype = memory.fill_uninitialized_memory, torch.get_default_dtype()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
