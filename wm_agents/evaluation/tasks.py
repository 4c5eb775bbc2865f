"""Evaluation tasks: frozen pairs of a start and a goal state, in a manifest with a hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wm_agents.datasets import POLICIES, default_policy
from wm_agents.datasets.pairs import DECIMALS, episode_pairs, random_pairs, replayed_pairs, unsolved
from wm_agents.envs import WrappedEnv
from wm_agents.evaluation.environments import check_env_id, open_env, whole_number
from wm_agents.evaluation.files import write_text

FORMAT = 1
HELD_OUT_SEEDS = (7001, 7002)
"""Seeds of the two sets of any-goal tasks that are reported. No other run may use them: nothing was chosen on them."""
DEVELOPMENT_SEED = 1001
"""First seed of the tasks on which agents are tuned and calibrated; those after it are free as well, up to 7000."""

Offset = int | Literal["random"]
STEPS = "a number of environment steps"
"""What offsets and budgets are, for error messages."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """A fixed set of tasks. Two manifests are equal when their hashes are.

    Attributes:
        env_id: Gymnasium id of the environment.
        policy: Exploration policy of the held-out episodes; empty for random starts and goals.
        offset: Environment steps between start and goal in their episode, or ``"random"``.
        budget: Environment steps that an agent has for a task.
        seed: Seed of the held-out episodes, or of the random states.
        starts: float64 ``[N, S]`` simulator states; of wrapped environments addresses ``(seed, t)``.
        goals: float64 ``[N, S]`` simulator states, as recorded; only the part that the success test uses counts.
        sources: int64 ``[N, 2]``: held-out episode and step of each start; ``[0, 2]`` for random starts and goals.

    Raises:
        ValueError: No tasks, shapes that disagree, states that are not finite, or a budget below 1.
    """

    env_id: str
    policy: str
    offset: Offset
    budget: int
    seed: int
    starts: np.ndarray
    goals: np.ndarray
    sources: np.ndarray

    def __post_init__(self) -> None:
        plain = {
            "env_id": str(self.env_id),
            "policy": str(self.policy),
            "offset": _offset(self.offset),
            "budget": whole_number("budget", self.budget, 1, STEPS),
            "seed": whole_number("seed", self.seed),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        for name in ("starts", "goals"):
            states = np.round(np.asarray(getattr(self, name), dtype=np.float64), DECIMALS) + 0.0  # + 0.0: no minus zero
            states.setflags(write=False)
            object.__setattr__(self, name, states)
        sources = np.array(self.sources, dtype=np.int64).reshape(-1, 2)
        sources.setflags(write=False)
        object.__setattr__(self, "sources", sources)
        if self.starts.ndim != 2 or self.starts.shape != self.goals.shape or self.starts.size == 0:
            raise ValueError(
                "a manifest needs at least one task, with starts and goals of one shape [N, S]; "
                f"got {self.starts.shape} and {self.goals.shape}."
            )
        if not (np.isfinite(self.starts).all() and np.isfinite(self.goals).all()):
            raise ValueError("a manifest's starts and goals must be finite numbers.")
        if len(self.sources) not in (0, len(self)):
            raise ValueError(f"a manifest needs one source a task or none, got {len(self.sources)} for {len(self)}.")

    def __len__(self) -> int:
        return len(self.starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content as canonical JSON (sorted keys, no spaces)."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "env_id": self.env_id,
            "policy": self.policy,
            "offset": self.offset,
            "budget": self.budget,
            "seed": self.seed,
            "starts": self.starts.tolist(),
            "goals": self.goals.tolist(),
            "sources": self.sources.tolist(),
        }

    def to_json(self) -> str:
        """Return the manifest as JSON text, its hash included."""
        return json.dumps({**self._content(), "sha256": self.sha256})

    @classmethod
    def from_json(cls, text: str, source: str = "the text") -> Manifest:
        """Read what :meth:`to_json` wrote.

        Args:
            text: JSON.
            source: Name of the text in error messages.

        Raises:
            ValueError: The text is damaged, incomplete, of another format, or was changed after it was written.
        """
        advice = "Restore the file, or make the manifest again from its seed with make_manifest()."
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r} is not the {FORMAT} that this version reads")
            fields = {name: content[name] for name in cls.__dataclass_fields__}
            for name, kind in (("env_id", str), ("policy", str), ("budget", int), ("seed", int)):
                if not isinstance(fields[name], kind):
                    raise ValueError(f"{name} must be of type {kind.__name__}")
            manifest = cls(**fields)
        except KeyError as error:
            raise ValueError(f"{source} is no manifest: the field {error} is missing. {advice}") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{source} is no manifest: {error}. {advice}") from error
        if content.get("sha256") != manifest.sha256:
            raise ValueError(f"{source} was changed after it was written: its sha256 does not match. {advice}")
        return manifest

    def save(self, path: str | Path) -> None:
        """Write the manifest as JSON, atomically."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """Read a manifest that :meth:`save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or was changed.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8", errors="replace"), source=str(path))


def described(thing: Any) -> str:
    """What messages call a thing that is of the wrong kind."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"


def check_manifest(manifest: Any) -> None:
    """Raise ``ValueError`` unless it is a :class:`Manifest`."""
    if not isinstance(manifest, Manifest):
        raise ValueError(
            f"the tasks must be a Manifest, not {described(manifest)}: evaluation.make_manifest draws one, and "
            "Manifest.load(path) reads one."
        )


def make_manifest(
    env_id: str, *, tasks: int = 200, offset: Offset = 25, budget: int = 50, seed: int = 0, policy: str | None = None
) -> Manifest:
    """Draw tasks that were not used for training; no dataset is read and no frame is rendered.

    With a number as ``offset``, each task comes from a held-out episode of its own, generated by ``policy`` from a
    seed that collection never uses: a random step is the start, the state ``offset`` steps later is the goal. With
    ``"random"``, both are random free states. A wrapped environment cannot draw states: there the start is what its
    ``reset`` gives, the goal a random moment of the episode up to ``goal_steps`` later, and starts and goals are
    addresses, ``(seed, t)``; see :class:`wm_agents.envs.WrappedEnv`. A pair that is already solved at the start, by
    the test of any mode, is replaced by one from the next episode; in wrapped environments, which may move by
    themselves, so is one that doing nothing solves. The same arguments give the same manifest; fewer tasks give its
    beginning.

    Args:
        env_id: A registered id such as ``"wm/PointMaze-UMaze-v0"``; ``"my_package:my/Task-v0"`` imports ``my_package``
            first.
        tasks: Number of tasks, at least 1.
        offset: Environment steps from start to goal, at least 1, or ``"random"``.
        budget: Environment steps that an agent has, at least 1.
        seed: Seed of the set of tasks, at least 0.
        policy: Name of the exploration policy, by default the one that collects the task's data; ignored for
            ``"random"``.

    Raises:
        ValueError: An argument is out of range or unknown, or too few pairs are unsolved at the start.
    """
    tasks = whole_number("tasks", tasks)
    if tasks < 1:
        raise ValueError(f"an evaluation needs at least one task, got tasks={tasks}.")
    seed, offset = whole_number("seed", seed, 0), _offset(offset)
    budget = whole_number("budget", budget, 1, STEPS)
    env = open_env(env_id, obs_type="state")
    try:
        task: Any = env.unwrapped
        if isinstance(task, WrappedEnv):
            task.policy = policy = policy or task.policy
            candidates = replayed_pairs(env, None if offset == "random" else offset, seed)
        elif offset == "random":
            policy, candidates = "", random_pairs(env, seed)
        else:
            policy = policy or default_policy(check_env_id(env_id))
            POLICIES.get(policy)
            candidates = episode_pairs(env, policy, offset, seed)
        starts, goals, sources = unsolved(env, candidates, tasks, offset)
        for goal in goals[:3] if isinstance(task, WrappedEnv) else ():
            task.check_repeats(goal)
    finally:
        env.close()
    return Manifest(env_id, policy, offset, budget, seed, starts, goals, sources)


def _offset(offset: Any) -> Offset:
    """Return an offset as a Python number or "random"."""
    if isinstance(offset, str):
        if offset != "random":
            raise ValueError(f'offset must be {STEPS}, at least 1, or "random", got {str(offset)!r}.')
        return "random"
    return whole_number("offset", offset, 1, STEPS)
