"""Where training runs, and in which of torch's modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import deterministic


def find_device(device: torch.device | str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where torch sees one, else the CPU.

    Raises:
        ValueError: No such device. Falling back to the CPU would be a surprise of some hours.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"there is no device {device!r}: use auto, cpu or cuda.") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device}: torch sees {torch.cuda.device_count()} GPUs. Use cpu, or auto.")
    return found


@contextlib.contextmanager
def own_modes(device: torch.device) -> Iterator[None]:
    """Gradients on and float32 whatever the caller has set; on a CPU, sums in an order that threads do not change.

    Without the latter, gradients of indexed tensors are added up in whatever order the threads arrive.
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
