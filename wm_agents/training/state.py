"""The resumable state of a training run, in one safetensors file."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wm_agents.tensorfile import CheckpointError, read_tensors, write_tensors

History = dict[str, list[tuple[int, float]]]


@dataclass
class Progress:
    """What changes while a learner trains.

    Attributes:
        module: Its weights.
        optimizer: Its moments.
        rng: Source of what is drawn from the data.
        generator: Source of what torch samples.
        step: Updates so far.
        history: Metrics so far, ``name -> [(step, value), ...]``.
        finished: All steps are done, and the learner has finished its module.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    generator: torch.Generator
    step: int = 0
    history: History = field(default_factory=dict)
    finished: bool = False

    @property
    def cuda(self) -> torch.device | None:
        """The GPU of the weights, whose dropout has a generator of its own; None on a CPU."""
        device = next((weight.device for weight in self.module.parameters()), torch.device("cpu"))
        return device if device.type == "cuda" else None


class TrainingState:
    """Everything that a resumed run needs to end like an uninterrupted one, in one safetensors file.

    Holds a :class:`Progress`, torch's global generator among it (dropout). The ``fingerprint`` names the run: data,
    shapes, options and the weights that it starts from. A file from another run is refused.

    Args:
        path: File of the state; None keeps nothing.
        fingerprint: JSON-able description of the run.
    """

    def __init__(self, path: Path | None, fingerprint: dict[str, Any]) -> None:
        self.path = path
        self.fingerprint = json.loads(json.dumps(fingerprint, default=str))

    def save(self, progress: Progress) -> None:
        """Write the state atomically."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in progress.module.state_dict().items()}
        for index, moments in progress.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors["random.torch"] = torch.get_rng_state()
        tensors["random.generator"] = progress.generator.get_state()
        if progress.cuda:
            tensors["random.cuda"] = torch.cuda.get_rng_state(progress.cuda)
        header = {
            "fingerprint": self.fingerprint,
            "step": progress.step,
            "finished": progress.finished,
            "numpy": progress.rng.bit_generator.state,
            "history": progress.history,
        }
        write_tensors(tensors, header, self.path)

    def restore(self, progress: Progress) -> None:
        """Load the state, if there is one.

        Raises:
            CheckpointError: The file is damaged, or belongs to a run with other data, options or weights.
        """
        if self.path is None or not self.path.exists():
            return
        tensors, header = read_tensors(self.path)
        if "fingerprint" not in header:
            raise CheckpointError(f"{self.path} holds no training state: give another directory to start over.")
        if changed := list(_differences(header["fingerprint"], self.fingerprint)):
            raise CheckpointError(
                f"{self.path} belongs to a run that differs in {', '.join(changed)}: give the same options to resume, "
                "or another directory to start over."
            )
        weights = {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}
        progress.module.load_state_dict(weights)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = value
        groups = progress.optimizer.state_dict()["param_groups"]
        progress.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        torch.set_rng_state(tensors["random.torch"])
        progress.generator.set_state(tensors["random.generator"])
        if "random.cuda" in tensors and progress.cuda:
            torch.cuda.set_rng_state(tensors["random.cuda"], progress.cuda)
        progress.rng.bit_generator.state = header["numpy"]
        progress.history = {n: [(int(s), float(v)) for s, v in points] for n, points in header["history"].items()}
        progress.step, progress.finished = int(header["step"]), bool(header["finished"])


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Name every entry in which two fingerprints differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} ({reprlib.repr(old)} there, {reprlib.repr(new)} here)"
