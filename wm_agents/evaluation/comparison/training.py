"""Training what a comparison needs, once: a folder for each run, named by a hash of all that the run depends on."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from wm_agents import baselines, datasets, pipeline
from wm_agents.agents import load
from wm_agents.checkpoint import versions
from wm_agents.datasets import TrajectoryDataset
from wm_agents.evaluation.comparison.plan import POINTS, Plan
from wm_agents.evaluation.files import file_sha256, write_json
from wm_agents.evaluation.playing import Agent


@dataclass(frozen=True)
class Candidate:
    """A trained agent, or a model on the way to it.

    Attributes:
        agent: Its name in the comparison.
        seed: Of its training.
        steps: Environment steps behind it, those of recorded data included.
        seconds: Of training, and of recording data; of training alone where the data were there before.
        identity: What its results depend on, for the key of a cell.
        open: Loads it.
    """

    agent: str
    seed: int
    steps: int
    seconds: float
    identity: Mapping[str, Any]
    open: Callable[[], Agent]


class Trainer:
    """Trains agents below a folder, or goes on with them, or reuses them, and says which.

    Args:
        plan: What is compared.
        out: Folder of the comparison.
        device: "auto", "cpu", "cuda".
        console: Where it says what it does.

    Attributes:
        recorded: Whether the seconds of recording data are known: they were recorded for this comparison.
        shown: Whether progress bars are.
    """

    def __init__(self, plan: Plan, out: Path, device: str, console: Console) -> None:
        self.plan, self.out, self.device, self.console = plan, out, device, console
        self.recorded = True
        self.shown = console.is_terminal
        self._data: tuple[dict[str, TrajectoryDataset], float] | None = None

    def candidates(self, name: str, seed: int) -> list[Candidate]:
        """Train an agent, unless it is there; return it, after the models on its way."""
        if name in baselines.ONLINE:
            return self._online(name, seed)
        offline = name in baselines.OFFLINE
        file, seconds = self._offline(name, seed) if offline else self._world_model(seed)
        data, recording = self.data()
        steps = sum(int(part.lengths.sum()) for part in data.values())
        kind = None if offline else name
        opened = functools.partial(load, file, agent=kind, device=self.device)
        identity = {"agent": name, "sha256": file_sha256(file)}
        return [Candidate(name, seed, steps, seconds + recording, identity, opened)]

    def data(self) -> tuple[dict[str, TrajectoryDataset], float]:
        """Record the data of the recipe, or load them; also the seconds of recording, 0 if those are not known."""
        if self._data is None:
            recipe = self.plan.recipe()
            names = {name: recipe.dataset_of(name) for name in recipe.data}
            digest = _digest({"data": {name: asdict(part) for name, part in recipe.data.items()}, "names": names})
            clock = self.out / "data" / f"{digest}.json"
            there = set(names.values()) & set(datasets.list_datasets())
            self.recorded = clock.exists() or not there
            self._say(f"{'uses' if there else 'records'} {', '.join(names.values())}")
            if self.recorded:
                with clocked(clock):
                    found = pipeline.collect(recipe, progress=self.shown)
            else:
                found = pipeline.collect(recipe, progress=self.shown)
            self._data = found, _seconds(clock) if self.recorded else 0.0
        return self._data

    def _world_model(self, seed: int) -> tuple[Path, float]:
        """The file that all world-model agents of a seed share, and the seconds that its training took."""
        recipe = self.plan.recipe().seeded(seed)
        data, _ = self.data()
        key = {"recipe": asdict(recipe), "data": _hashes(data), "versions": versions()}
        folder = self._folder("world-model", seed, key, lambda folder: (folder / pipeline.AGENT_FILE).exists())
        if not (folder / pipeline.AGENT_FILE).exists():
            with clocked(folder / "seconds.json"):
                pipeline.reproduce(recipe, folder, data=data, seed=seed, device=self.device, progress=self.shown)
        return folder / pipeline.AGENT_FILE, _seconds(folder / "seconds.json")

    def _offline(self, name: str, seed: int) -> tuple[Path, float]:
        train, options = baselines.OFFLINE[name]
        training: Any = options(seed=seed, **baselines.offline_options(name, self.plan.env_id))
        training = training.shortened() if self.plan.quick else training
        data, _ = self.data()
        key = {"training": asdict(training), "data": _hashes(data), "versions": versions()}
        folder = self._folder(name, seed, key, lambda folder: (folder / pipeline.AGENT_FILE).exists())
        file = folder / pipeline.AGENT_FILE
        if not file.exists():
            with clocked(folder / "seconds.json"):
                joined = datasets.concatenate(list(data.values()))
                agent = train(joined, training, run_dir=folder, device=self.device, progress=self.shown)
                agent.save(file)
        return file, _seconds(folder / "seconds.json")

    def _online(self, name: str, seed: int) -> list[Candidate]:
        plan = self.plan
        how = baselines.settings(name, plan.env_id)
        run = {"steps": plan.steps, "seed": seed, "points": POINTS}
        key = {"name": name, "env_id": plan.env_id, "settings": asdict(how), **run, "versions": versions()}
        folder = self._folder(name, seed, key, lambda folder: baselines.finished(folder, plan.steps))
        points = baselines.train(name, plan.env_id, folder, how=how, device=self.device, progress=self.shown, **run)
        return [
            Candidate(
                name,
                seed,
                point.steps,
                point.seconds,
                {"agent": name, "sha256": file_sha256(point.path)},
                functools.partial(baselines.load, point.path, how, plan.env_id, device=self.device),
            )
            for point in points
        ]

    def _folder(self, label: str, seed: int, key: Mapping[str, Any], finished: Callable[[Path], bool]) -> Path:
        """Return the folder of a run, after saying whether it is reused, goes on, or begins."""
        stem = f"{label}-seed-{seed}"
        folder = self.out / "agents" / f"{stem}-{_digest(key)}"
        others = [path.name for path in sorted(folder.parent.glob(f"{stem}-*")) if path != folder]
        if (folder / "key.json").exists():
            same = "of the same configuration, data and versions"
            self._say(f"{'reuses' if finished(folder) else 'goes on with'} {folder}, {same}")
        else:
            kept = f"; {', '.join(others)} differ in configuration, data or versions and stay" if others else ""
            self._say(f"trains {folder}{kept}")
            write_json(folder / "key.json", json.loads(json.dumps(key, default=str)))
        return folder

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def clocked(path: Path) -> Iterator[None]:
    """Add the time of the block to a file, unless an earlier block ended without error: interrupted ones add up."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seconds": 0.0, "complete": False}
    if before["complete"]:
        yield
        return
    began, complete = time.perf_counter(), False
    try:
        yield
        complete = True
    finally:
        write_json(path, {"seconds": before["seconds"] + time.perf_counter() - began, "complete": complete})


def _seconds(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _hashes(data: Mapping[str, TrajectoryDataset]) -> dict[str, str]:
    return {name: str(part.provenance.get("sha256", part.name)) for name, part in data.items()}
