"""The resumable state of a training run, in one safetensors file."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wm_agents.checkpoint import CheckpointError, read_tensors, write_tensors

History = dict[str, list[tuple[int, float]]]


class TrainingState:
    """Everything that a resumed run needs to end like an uninterrupted one, in one safetensors file.

    Holds weights, AdamW moments, both random number generators, torch's global generator (dropout), the step and the
    history of metrics. The ``fingerprint`` names the run: data, shapes and options. A file of another run is refused.

    Args:
        path: Where the state lives; None keeps nothing.
        fingerprint: JSON-able description of the run.
    """

    def __init__(self, path: Path | None, fingerprint: dict[str, Any]) -> None:
        self.path = path
        self.fingerprint = json.loads(json.dumps(fingerprint, default=str))

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator,
        generator: torch.Generator, history: dict[str, list[tuple[int, float]]],
    ) -> None:  # fmt: skip
        """Write the state atomically."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors["random.torch"] = torch.get_rng_state()
        tensors["random.generator"] = generator.get_state()
        if (device := next(model.parameters()).device).type == "cuda":  # whose dropout has a generator of its own
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        header = {
            "fingerprint": self.fingerprint,
            "step": step,
            "numpy": rng.bit_generator.state,
            "history": history,
        }
        write_tensors(tensors, header, self.path)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[int, dict[str, list[tuple[int, float]]]]:
        """Load the state, if there is one, and return the step to go on from and the history so far.

        Raises:
            CheckpointError: The file is damaged, or belongs to a run with other data or options.
        """
        if self.path is None or not self.path.exists():
            return 0, {}
        tensors, header = read_tensors(self.path)
        if "fingerprint" not in header:
            raise CheckpointError(f"{self.path} holds no training state: give another directory to start anew.")
        if changed := list(_differences(header["fingerprint"], self.fingerprint)):
            raise CheckpointError(
                f"{self.path} belongs to a run that differs in {', '.join(changed)}: give the same options to resume, "
                "or another directory to start anew."
            )
        model.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, moment = name.split(".")
                state.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(tensors["random.torch"])
        generator.set_state(tensors["random.generator"])
        if "random.cuda" in tensors and (device := next(model.parameters()).device).type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], device)
        rng.bit_generator.state = header["numpy"]
        history = {name: [(int(s), float(v)) for s, v in points] for name, points in header["history"].items()}
        return int(header["step"]), history


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Name every entry in which two fingerprints differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-6):
        return  # rounding alone: sums depend on the number of threads
    elif old != new:
        yield f"{name} ({reprlib.repr(old)} there, {reprlib.repr(new)} here)"
