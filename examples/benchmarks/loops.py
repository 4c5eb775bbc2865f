"""The same tasks in five loops: does an agent act as well in the loops that people write as in our evaluator?

    python examples/benchmarks/loops.py --tasks 200                       # the shipped agents, any goal
    python examples/benchmarks/loops.py --tasks 50 --agents reacher/gc-idm runs/mine/agent.safetensors:cem
    python examples/benchmarks/loops.py --page docs/loops.md --no-measure # only write the page of what is there

Each agent, protocol and loop is a JSON file in ``--out``; one that is there is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import wm_agents
from wm_agents import evaluation
from wm_agents.agents.loading import list_checkpoints, shipped
from wm_agents.evaluation import Manifest, TaskEnv
from wm_agents.evaluation.files import file_sha256
from wm_agents.evaluation.report import Protocol
from wm_agents.evaluation.report.markdown import table

RESULTS = Path("examples/benchmarks/results/loops")
MEASURED = ("gc-idm", "cem", "hierarchical")
"""The shipped agents that are measured unless others are named."""


def our_evaluator(agent: Any, manifest: Manifest, num_envs: int) -> np.ndarray:
    """``evaluation.evaluate``: state is carried."""
    result = evaluation.evaluate(agent, manifest, num_envs=num_envs, progress=False, known_floors={})
    return result.outcomes.moderate


def with_evaluate_policy(agent: Any, manifest: Manifest, num_envs: int) -> np.ndarray:
    """SB3's ``evaluate_policy`` on one environment: state is carried."""
    env = TaskEnv(manifest)
    evaluate_policy(agent, Monitor(env), n_eval_episodes=len(manifest))
    return env.steps


def with_eval_callback(agent: Any, manifest: Manifest, num_envs: int) -> np.ndarray:
    """SB3's ``EvalCallback`` on several environments at once: state is carried."""
    count = min(num_envs, len(manifest))
    ends = np.cumsum([0, *((len(manifest) + i) // count for i in range(count))])  # as evaluate_policy shares them out
    envs = [TaskEnv(manifest, range(first, last)) for first, last in itertools.pairwise(ends)]
    agent.set_env(DummyVecEnv([lambda: Monitor(gym.make(manifest.env_id))]))
    callback = EvalCallback(
        DummyVecEnv([functools.partial(Monitor, env) for env in envs]),
        n_eval_episodes=len(manifest),
        eval_freq=1,
        verbose=0,
    )
    callback.init_callback(agent)
    callback.on_step()
    return np.max([env.steps for env in envs], axis=0)


def bare(agent: Any, manifest: Manifest, num_envs: int) -> np.ndarray:
    """``action, _ = agent.predict(obs)``, one environment: nothing is carried."""
    env = TaskEnv(manifest)
    for _ in range(len(manifest)):
        obs, _ = env.reset()
        done = False
        while not done:
            action, _ = agent.predict(obs)
            obs, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
    return env.steps


def bare_vectorised(agent: Any, manifest: Manifest, num_envs: int) -> np.ndarray:
    """``actions, _ = agent.predict(obs)``, a VecEnv that starts episodes by itself: nothing is carried."""
    count = min(num_envs, len(manifest))
    envs = [TaskEnv(manifest, range(first, len(manifest), count)) for first in range(count)]
    venv = DummyVecEnv([functools.partial(Monitor, env) for env in envs])
    obs = venv.reset()
    while any((env.steps[env.tasks] < 0).any() for env in envs):
        actions, _ = agent.predict(obs)
        obs, _, _, _ = venv.step(actions)
    return np.max([env.steps for env in envs], axis=0)


LOOPS: dict[str, Callable[[Any, Manifest, int], np.ndarray]] = {
    "our evaluator": our_evaluator,
    "evaluate_policy": with_evaluate_policy,
    "EvalCallback": with_eval_callback,
    "bare loop": bare,
    "VecEnv, bare": bare_vectorised,
}


def opened(name: str) -> Any:
    """Load an agent by the name that it was given by on the command line."""
    path, _, kind = name.partition(":")
    return wm_agents.load(path, agent=kind or None, device="cpu")


def digest(name: str) -> str:
    """SHA-256 of the file behind a name."""
    path = name.partition(":")[0]
    return file_sha256(Path(path)) if Path(path).is_file() else shipped()[name.partition("/")[0]]


def measured(name: str, manifest: Manifest, loop: str, num_envs: int) -> dict[str, Any]:
    """Play all tasks in one loop."""
    agent = opened(name)
    began = time.perf_counter()
    steps = LOOPS[loop](agent, manifest, num_envs)
    seconds = time.perf_counter() - began
    assert (steps >= 0).all(), "a task was not played"
    solved = int((steps > 0).sum())
    return {
        "agent": name,
        "loop": loop,
        "env_id": manifest.env_id,
        "tasks": len(manifest),
        "success_rate": solved / len(manifest),
        "ci95": list(evaluation.wilson_interval(solved, len(manifest))),
        "outcomes": [int(step) or None for step in steps],
        "seconds": round(seconds, 1),
        "version": wm_agents.__version__,
    }


def cells(arguments: argparse.Namespace) -> Iterable[evaluation.Cell]:
    """One cell for each protocol, agent and loop."""
    for text in arguments.protocols:
        for name in arguments.agents:
            agent = opened(name)
            protocol = Protocol.parse(text).within(gym.spec(agent.env_id).max_episode_steps or 300)
            manifest = evaluation.make_manifest(
                agent.env_id,
                tasks=arguments.tasks,
                offset=protocol.offset,
                budget=protocol.budget,
                seed=protocol.seed if arguments.seed is None else arguments.seed,
            )
            for loop in LOOPS:
                key = {
                    "agent": name,
                    "protocol": text,
                    "loop": loop,
                    "options": agent.options(),
                    "checkpoint_sha256": digest(name),
                    "manifest_sha256": manifest.sha256,
                }
                stem = "_".join((text, name, loop)).translate(str.maketrans("/: ,", "----"))
                yield evaluation.Cell(stem, key, functools.partial(measured, name, manifest, loop, arguments.num_envs))


def page(folder: Path) -> str:
    """The page of all results in a folder, as Markdown."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    lines = [
        "# Five loops",
        "",
        "How well the shipped agents act in the loops that people write, on the same tasks in each: success in % with "
        "95% intervals, moderate test. Our evaluator, `evaluate_policy` and `EvalCallback` carry the agent's state "
        "from call to call; a bare loop, `action, _ = agent.predict(obs)`, does not. [Any goal](any-goal.md) says what "
        "the protocols are.",
        "",
    ]
    if not found:
        return "\n".join([*lines, "Not measured yet.", ""])
    commands = []
    for count in sorted({one["tasks"] for one in found}):
        mine = [one for one in found if one["tasks"] == count]
        agents, protocols = (" ".join(sorted({one["key"][name] for one in mine})) for name in ("agent", "protocol"))
        options = f"--agents {agents} --tasks {count} --protocols {protocols} --page docs/loops.md"
        commands.append(f"python examples/benchmarks/loops.py {options}")
    lines += ["Regenerate it:", "", "```bash", *commands, "```"]
    for protocol in dict.fromkeys(one["key"]["protocol"] for one in found):
        mine = [one for one in found if one["key"]["protocol"] == protocol]
        goals = {"any": "Any goal", "any-2": "Any goal, second set"}.get(protocol, f"Goals {protocol}")
        lines += ["", f"## {goals}", ""]
        rows = []
        for agent in dict.fromkeys(one["agent"] for one in mine):
            by_loop = {one["loop"]: one for one in mine if one["agent"] == agent}
            tasks = ", ".join(sorted({str(one["tasks"]) for one in by_loop.values()}))
            rows.append((agent, tasks, *(shown(by_loop.get(loop)) for loop in LOOPS), lost(by_loop)))
        lines += table(("agent", "tasks", *LOOPS, "lost, at most"), rows)
    return "\n".join([*lines, ""])


def shown(result: dict[str, Any] | None) -> str:
    """A result as the page has it."""
    if result is None:
        return "not measured"
    low, high = (100 * bound for bound in result["ci95"])
    return f"{100 * result['success_rate']:.1f} [{low:.0f}, {high:.0f}]"


def lost(by_loop: dict[str, Any]) -> str:
    """Points between our evaluator and the worst of the loops."""
    if len(by_loop) < len(LOOPS):
        return "not measured"
    rates = {loop: 100 * one["success_rate"] for loop, one in by_loop.items()}
    return f"{max(0.0, rates['our evaluator'] - min(rates.values())):.1f}"


def main() -> None:
    """Parse the arguments and run."""
    default = [name for name in list_checkpoints() if name.partition("/")[2] in MEASURED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=default, help="shipped agents, or FILE:AGENT")
    parser.add_argument("--protocols", nargs="+", default=["any"], help="any, any-2, or OFFSET/BUDGET")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, help="of the task set; by default the reported one of the protocol")
    parser.add_argument("--num-envs", type=int, default=20, help="of the loops that have several environments")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 measures in this one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, help="write the tables of all that is in --out here")
    parser.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.measure:
        with evaluation.Runner(arguments.workers, Console(stderr=True)) as runner:
            failed = evaluation.Grid(arguments.out).run(list(cells(arguments)), runner)
        for name, error in failed.items():
            print(f"{name}: {error}")
    text = page(arguments.out)
    print(text)
    if arguments.page:
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
