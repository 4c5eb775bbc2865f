"""One call from an environment that the library has never seen to an agent, a table, a video and a figure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console

from wm_agents import budgets, datasets, evaluation, pipeline
from wm_agents.agents import GCIDM, MPC, WorldModelAgent
from wm_agents.configs import check_numbers, whole_number
from wm_agents.envs import WrappedEnv, register_wrapped
from wm_agents.envs.wrapping import open_task, view_of
from wm_agents.evaluation.environments import check_env_id
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.tasks import DEVELOPMENT_SEED
from wm_agents.recipes import Recipe

PLAN_FILE = "plan.json"


@dataclasses.dataclass(frozen=True)
class Solved:
    """What :func:`solve` made.

    Attributes:
        agent: The better of the two agents, ready to ``predict``.
        results: Of each agent, on the same held-out goals.
        verdict: In words, whether it is better than acting at random, and what to try if not.
        out: Where everything was written.
    """

    agent: WorldModelAgent
    results: list[evaluation.EvaluationResult]
    verdict: str
    out: Path


@dataclasses.dataclass(frozen=True)
class Minutes:
    """The time for all of it, checked."""

    minutes: float

    def __post_init__(self) -> None:
        check_numbers(self, ("minutes",), 0.5)


def solve(
    env: str | gym.Env,
    minutes: float = 15,
    *,
    out: str | Path | None = None,
    tasks: int = 100,
    seed: int = 0,
    policy: str | None = None,
    wrapping: dict[str, Any] | None = None,
    device: str = "auto",
    command: str = "",
    console: Console | None = None,
) -> Solved:
    """Record, train, fit and evaluate agents that reach goal images in an environment of yours.

    A world model (LeWM) learns from exploration, GC-IDM and CEM act with it, and both are evaluated on goals of
    held-out episodes, beside random actions and no action. Called again with the same arguments after Ctrl-C or a kill
    it goes on; once finished it loads what it wrote.

    Written into ``out``: ``agent.safetensors``, ``table.md``, one JSON file an agent, ``tasks.json``, a video and a
    film strip of some tasks, training curves, and ``plan.json``: sizes and steps, chosen for the machine and the time.

    Args:
        env: An id; any environment is wrapped as :func:`wm_agents.wrap` does it. For one that needs other options,
            give them as ``wrapping``, or register it with :func:`wm_agents.envs.register_wrapped`.
        minutes: For all of it, evaluation included, at least half a minute. Measured speeds decide what fits: a busy
            machine takes longer.
        out: Directory of the run; ``runs/solve-<task>`` by default.
        tasks: Held-out goals.
        seed: Of the trainings.
        policy: Name of the exploration policy in ``wm_agents.registry.POLICIES``; "smooth-random" by default.
        wrapping: Options of :func:`wm_agents.wrap`.
        device: "auto", "cpu", "cuda".
        command: Recorded in the checkpoint's provenance.
        console: Where progress and results are printed; None prints to standard output.

    Raises:
        ValueError: There is no such environment, it cannot be wrapped, or an argument is out of range.
        OSError: ``out`` cannot be written to.
    """
    Minutes(minutes)
    tasks, console = whole_number("tasks", tasks, 1), console or Console()
    env_id = _named(env, wrapping)
    out = Path(out or Path("runs") / f"solve-{datasets.task_name(env_id).replace('/', '-')}")
    check_output(out, folder=True)
    began = time.perf_counter()
    with torch.inference_mode(False):
        plan = _planned(env_id, minutes, out, tasks, policy, device, console, began)
        manifest = plan.tasks(tasks, 0)
        agent = pipeline.reproduce(plan.recipe(), out, seed=seed, device=device, command=command)
        if plan.discrete and plan.budget.temperature is None:
            plan.change(temperature=_best_temperature(agent, plan, min(tasks, budgets.DEVELOPMENT), console))
            agent = pipeline.reproduce(plan.recipe(), out, seed=seed, device=device, command=command)
    recipe = plan.recipe()
    search = MPC(agent.world_model, heads=agent.heads, planner="cem", **recipe.options["cem"])
    results: list[evaluation.EvaluationResult] = []
    for player, name in ((agent, "gc-idm"), (search, "cem")):
        known = results[0].floors if results else None
        result = evaluation.evaluate(player, manifest, name=name, video=min(6, tasks), known_floors=known)
        result.save(out / f"{name}.json")
        results.append(result)
    best = max(range(2), key=lambda index: results[index].success_rate)
    said = verdict(results)
    _write(out, agent, results, results[best], said)
    evaluation.print_report(results, console)
    minutes_taken = (time.perf_counter() - began) / 60
    console.print(
        f"\n{said}\n\nDone in {minutes_taken:.1f} minutes; all is in {out}/.", highlight=False, soft_wrap=True
    )
    return Solved((agent, search)[best], results, said, out)


def _named(env: Any, wrapping: dict[str, Any] | None) -> str:
    """The id of the environment; one with options of its own is registered under a new one."""
    if not isinstance(env, str):
        raise ValueError(
            "solve takes the id of an environment, since it makes several of them: register yours with "
            "wm_agents.envs.register_wrapped(name, function), or gym.register."
        )
    name = check_env_id(env)
    if not wrapping:
        return env
    own = f"wrapped/{name.replace('/', '-')}"
    gym.registry.pop(own, None)
    register_wrapped(own, env, **wrapping)
    return own


@dataclasses.dataclass
class _Plan:
    """What is recorded and trained, kept with the run after each change.

    Attributes:
        path: Of its file.
        asked: What the run is of, as JSON types; another run has another folder.
        goal_steps: How far goals are.
        discrete: Whether actions are.
        budget: Sizes and steps.
    """

    path: Path
    asked: dict[str, Any]
    goal_steps: int
    discrete: bool
    budget: budgets.Budget

    def recipe(self) -> Recipe:
        """How the agents are made, as far as it is decided."""
        view, budget = self.asked["view"], self.budget
        variant = f"-{budget.episodes}x{budget.length}"
        if view is not None:  # data that show the environment otherwise are others
            variant += "-" + hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()[:6]
        env_id, policy = self.asked["env_id"], self.asked["policy"]
        return budgets.recipe(
            env_id, policy, budget, goal_steps=self.goal_steps, discrete=self.discrete, variant=variant
        )

    def tasks(self, count: int, seed: int) -> evaluation.Manifest:
        """Draw goals of episodes that are not recorded."""
        env_id, policy = self.asked["env_id"], self.asked["policy"]
        budget = self.recipe().budget
        return evaluation.make_manifest(env_id, tasks=count, offset="random", budget=budget, seed=seed, policy=policy)

    def change(self, **decided: Any) -> None:
        """Decide more, and keep it."""
        self.budget = dataclasses.replace(self.budget, **decided)
        write_json(self.path, {**self.asked, "budget": dataclasses.asdict(self.budget)})


def _planned(
    env_id: str,
    minutes: float,
    out: Path,
    tasks: int,
    policy: str | None,
    device: str,
    console: Console,
    began: float,
) -> _Plan:
    """Decide what to record and to train, once for a run, and draw the tasks; the data are there afterwards."""
    env = open_task(env_id)
    try:
        task: Any = env.unwrapped
        goal_steps = task.goal_steps if isinstance(task, WrappedEnv) else budgets.GOAL_STEPS
        policy = policy or getattr(task, "policy", None) or datasets.default_policy(env_id)
        discrete = not isinstance(task.action_space, gym.spaces.Box)
        asked = {"env_id": env_id, "minutes": minutes, "policy": policy, "view": view_of(env_id)}
        kept = _read_plan(out, asked)
        if kept is None:
            speed = budgets.measure_frames(env)
            kept = budgets.first(minutes, speed, tasks, goal_steps, discrete)
            console.print(
                f"{env_id}: {speed:.0f} frames a second in one process; up to {budgets.PARTS * kept.episodes} "
                f"episodes of {kept.length} steps are recorded.\nA goal is reached when {_test(task)}.",
                highlight=False,
                soft_wrap=True,
            )
    finally:
        env.close()
    plan = _Plan(out / PLAN_FILE, asked, goal_steps, discrete, kept)
    plan.change()
    plan.tasks(tasks, 0).save(out / "tasks.json")
    spent = budgets.COLLECTING * (60 * minutes - kept.reserved)
    parts = kept.parts
    for number in range(1, budgets.PARTS + 1) if not parts else ():
        parts, plan.budget = number, dataclasses.replace(plan.budget, parts=number)
        pipeline.collect(plan.recipe())
        if time.perf_counter() - began > spent:
            break
    plan.change(parts=parts)
    if not plan.budget.updates:
        recorded = pipeline.collect(plan.recipe())
        lengths = np.concatenate([part.lengths for part in recorded.values()])
        plan.budget = dataclasses.replace(plan.budget, span=int(np.median(lengths)))
        model = plan.recipe().stage("world-model").model
        update = budgets.measure_updates(recorded["main"], budgets.world_model_training(12), model)
        left = 60 * minutes - (time.perf_counter() - began) - kept.reserved
        plan.change(updates=budgets.updates(left, update))
        console.print(
            f"{1000 * update:.0f} ms an update: "
            + ", ".join(f"{n} {s:,} steps" for n, s in plan.budget.updates.items()),
            highlight=False,
            soft_wrap=True,
        )
        late = (budgets.training_seconds(plan.budget.updates, update) - left) / 60
        if late > 0.1 * minutes:
            console.print(
                f"This takes about {late:.1f} minutes longer than you asked for: fewer than {budgets.LEAST} steps of a "
                "training teach nothing.",
                highlight=False,
                soft_wrap=True,
            )
    return plan


def _best_temperature(agent: WorldModelAgent, plan: _Plan, goals: int, console: Console) -> float:
    """How GC-IDM chooses among discrete actions: as solves most development goals, which are none of the held-out ones.

    The most probable action can be one that changes nothing, and then it is so for ever; a draw goes on.
    """
    manifest = plan.tasks(goals, DEVELOPMENT_SEED)
    found = {}
    for temperature in budgets.TEMPERATURES:
        player = GCIDM(agent.world_model, heads=agent.heads, temperature=temperature, device=agent.device)
        result = evaluation.evaluate(player, manifest, progress=False, known_floors={})
        found[temperature] = result.success_rate
    best = max(found, key=lambda temperature: (found[temperature], -temperature))
    rates = ", ".join(f"{temperature:g} {rate:.0%}" for temperature, rate in found.items())
    console.print(
        f"GC-IDM on {goals} development goals, by temperature: {rates}. It acts with {best:g}.",
        highlight=False,
        soft_wrap=True,
    )
    return best


def _test(task: Any) -> str:
    return task.success_tests["moderate"]


def _read_plan(out: Path, asked: dict[str, Any]) -> budgets.Budget | None:
    path = out / PLAN_FILE
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    if {name: stored.get(name) for name in asked} != asked:
        same = stored["env_id"] == asked["env_id"] and stored["minutes"] == asked["minutes"]
        what = "policy or images made otherwise" if same else f"{stored['env_id']}, {stored['minutes']:g} minutes"
        raise ValueError(f"{out} holds another run ({what}): give another out.")
    return budgets.Budget(**stored["budget"])


def verdict(results: list[evaluation.EvaluationResult]) -> str:
    """Say in words whether the better agent is better than the better floor, and what to try if it is not."""
    best = max(results, key=lambda result: result.success_rate)
    name, floor = max(best.floors.items(), key=lambda item: item[1].success_rate())
    solved = f"{best.agent} reaches {best.success_rate:.0%} of the goals"
    chance = f"{ {'random': 'random actions', 'noop': 'doing nothing'}[name] } {floor.success_rate():.0%}"
    ahead, behind, p = evaluation.mcnemar(best.outcomes.moderate > 0, floor.moderate > 0)
    if ahead > behind and p < 0.05:
        return f"{solved}, {chance}: better than chance (exact McNemar p = {p:.2g} on the same goals)."
    advice = [
        "more minutes",
        "another exploration policy (policy=...), if the recorded episodes hardly go anywhere",
        "a closer look: in film-strip.png the goal must be told from the start (pixels=, resize=, focus=, image_size=)",
    ]
    if floor.success_rate() > 0.5:
        advice.insert(0, "goals further away (goal_steps=...), or a stricter success=: chance reaches most of these")
    tried = "; ".join(advice)
    return f"{solved}, {chance}: NOT better than chance (exact McNemar p = {p:.2g} on the same goals). Try: {tried}."


def _write(
    out: Path,
    agent: WorldModelAgent,
    results: list[evaluation.EvaluationResult],
    best: evaluation.EvaluationResult,
    said: str,
) -> None:
    evaluation.write_video(out / f"{best.agent}.mp4", best.recordings)
    evaluation.save_figure(evaluation.film_strip(best.recordings), out / "film-strip.png", dpi=90)
    if agent.history:
        evaluation.save_figure(evaluation.training_figure(agent.history), out / "training.png")
    write_text(out / "table.md", markdown(results, said))


def markdown(results: list[evaluation.EvaluationResult], said: str) -> str:
    """Return the results as a Markdown table, floors first, with the verdict and the success test."""
    manifest = results[0].manifest
    rows = [(name, floor) for name, floor in results[0].floors.items()]
    rows += [(result.agent, result.outcomes) for result in results]
    lines = [
        f"{manifest.env_id}: {len(manifest)} held-out goals, budget {manifest.budget} steps.",
        "",
        "| agent | success | 95% interval | strict | steps (median) |",
        "|---|---|---|---|---|",
    ]
    for name, outcomes in rows:
        low, high = outcomes.interval()
        taken = outcomes.moderate[outcomes.moderate > 0]
        steps = f"{float(sorted(taken)[len(taken) // 2]):.0f}" if len(taken) else "-"
        rates = f"{outcomes.success_rate():.1%} | {low:.0%} to {high:.0%} | {outcomes.success_rate('strict'):.1%}"
        lines.append(f"| {name} | {rates} | {steps} |")
    notes = [f"- {note}" for note in results[0].notes]
    return "\n".join([*lines, "", said, "", *notes]) + "\n"
