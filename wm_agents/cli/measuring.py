"""Subcommands that measure: evaluate, calibrate, bench, report, study."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from wm_agents.cli.common import app, command_line, console, full_id, open_player, parse_offset
from wm_agents.configs import bare_id


@app.command
def evaluate(
    agent: tyro.conf.Positional[str],
    task: str | None = None,
    tasks: int = 200,
    offset: str = "25",
    budget: int | None = None,
    seed: int = 0,
    num_envs: int = 16,
    manifest: Path | None = None,
    json: Path | None = None,
    video: Path | None = None,
    imagined: bool = False,
    options: tuple[str, ...] = (),
    trust: bool = False,
    algorithm: str | None = None,
    vec_normalize: Path | None = None,
    device: str = "auto",
) -> None:
    """Evaluate an agent on held-out tasks, with floors and intervals.

    Args:
        agent: A shipped agent such as "pointmaze-umaze/gc-idm", your own checkpoint as FILE or FILE:AGENT, or a .zip
            file of Stable-Baselines3 or sb3-contrib.
        task: Gymnasium id or task name; by default the task that the agent was trained on, which files of
            Stable-Baselines3 do not tell.
        tasks: Number of tasks.
        offset: Steps from the start to the goal in a held-out episode, or "random" for a random start and goal.
        budget: Environment steps allowed; by default twice the offset, or the task's usual limit.
        seed: Seed of the set of tasks.
        num_envs: Environments that share a call; use 1 to time a single environment.
        manifest: File with the tasks to use; it is written first if it does not exist.
        json: File for all numbers.
        video: File for a video of the first 4 tasks, .mp4 or .gif.
        imagined: Show in the video what the agent expects of its plan; needs --video, and a file with the head viewer.
        options: Options of the agent as name=value pairs, for example horizon=10 precision=bf16.
        trust: Open a file of Stable-Baselines3. Such files are pickles, which run code when they are opened.
        algorithm: Class of a file of Stable-Baselines3, such as SAC, where the file does not tell.
        vec_normalize: Statistics that VecNormalize.save() wrote, for a model that was trained on normalised
            observations.
        device: auto, cpu or cuda.
    """
    from wm_agents import evaluation

    _check_outputs(manifest=manifest, json=json, video=video)
    if imagined and video is None:
        raise ValueError("--imagined shows plans in a video: add --video FILE.mp4.")
    name, _, kind = agent.partition(":")
    player, label = open_player(name, kind, device, options, trust, algorithm, vec_normalize)
    if manifest is not None and manifest.exists():
        chosen = evaluation.Manifest.load(manifest)
        if task and bare_id(full_id(task)) != bare_id(chosen.env_id):
            raise ValueError(
                f"{manifest} holds tasks of {chosen.env_id}, not of {task}: leave out --task, or give "
                "another --manifest."
            )
    else:
        trained_on = getattr(player, "env_id", "")
        if not (task or trained_on):
            raise ValueError(f"{name} does not tell on which task it was trained: add --task, such as wm/Reacher-v0.")
        chosen = _make_manifest(full_id(task) if task else trained_on, tasks, offset, budget, seed)
        if manifest is not None:
            chosen.save(manifest)
    films = 4 if video else None
    result = evaluation.evaluate(player, chosen, num_envs=num_envs, video=films, imagined=imagined, name=label)
    if json is not None:
        result.save(json)
    if video is not None:
        evaluation.write_video(video, result.recordings)
    evaluation.print_report([result], console)


def _check_outputs(**paths: Path | None) -> None:
    """Find out before the work begins whether its results can be written.

    Raises:
        OSError: A path is not writable.
        ValueError: The video's format is unknown, or two results have one path.
    """
    from wm_agents.evaluation import check_video_path
    from wm_agents.evaluation.files import check_output

    given = {name: path for name, path in paths.items() if path is not None}
    if len({path.absolute() for path in given.values()}) < len(given):
        raise ValueError(f"{', '.join(f'--{name}' for name in given)} need different files.")
    if "video" in given:
        check_video_path(given["video"])
    for path in given.values():
        check_output(path)


def _make_manifest(env_id: str, tasks: int, offset: str, budget: int | None, seed: int) -> Any:
    """Draw tasks with the policy that collects the task's data, and the usual budget unless another is given."""
    import gymnasium as gym

    from wm_agents import evaluation
    from wm_agents.recipes import RECIPES

    distance: Any = offset if offset == "random" else parse_offset(offset)
    name = evaluation.check_env_id(env_id)
    limit = gym.spec(name).max_episode_steps or 300
    steps = budget if budget is not None else (limit if distance == "random" else 2 * distance)
    policies = {recipe.env_id: recipe.policy for recipe in RECIPES.values()}
    return evaluation.make_manifest(
        env_id, tasks=tasks, offset=distance, budget=steps, seed=seed, policy=policies.get(name)
    )


@app.command
def calibrate(
    agent: tyro.conf.Positional[str],
    out: Path | None = None,
    tasks: int = 400,
    seed: int = 1001,
    num_envs: int = 16,
    device: str = "auto",
) -> None:
    """Measure on development tasks when an agent succeeds, so that agent.assess() can predict it.

    The result is stored in the agent's file; results for the file's other agents are kept.

    Args:
        agent: A shipped agent ("pointmaze-umaze/gc-idm"), or FILE or FILE:AGENT for your own checkpoint.
        out: File to write; by default FILE itself, or runs/TASK-calibrated/agent.safetensors for a shipped agent. The
            same command continues an interrupted run.
        tasks: Number of development tasks, with near, far and random goals.
        seed: First seed of these tasks.
        num_envs: Environments that share a call.
        device: auto, cpu or cuda.
    """
    from wm_agents import load
    from wm_agents.agents.files import open_checkpoint
    from wm_agents.evaluation.files import check_output
    from wm_agents.evaluation.report.comparison import sources

    name, _, kind = agent.partition(":")
    player: Any = load(name, agent=kind or None, device=device)
    own = Path(name).is_file()
    checkpoint = open_checkpoint(name) if own else sources([name.partition("/")[0]], [])[0].read()
    default = Path(name) if own else Path("runs") / f"{name.partition('/')[0]}-calibrated" / "agent.safetensors"
    path = out or default
    check_output(path)
    if path.is_file() and not (own and path.samefile(name)):
        raise ValueError(f"{path} exists: to calibrate its agents, give {path}:{player.name}, or another --out.")
    store_calibration(player, checkpoint, path, tasks=tasks, seed=seed, num_envs=num_envs)


def store_calibration(player: Any, checkpoint: Any, path: Path, **options: Any) -> None:
    """Calibrate an agent, write its checkpoint with what was found, and draw the reliability diagram beside it."""
    from wm_agents import evaluation
    from wm_agents.agents.files import write_agent
    from wm_agents.checkpoint import content_of

    folder = path.parent / "calibration" / player.name
    identity = {"content": content_of(checkpoint, without=("assessment",))}
    found = evaluation.calibrate(player, folder, identity=identity, console=console, **options)
    checkpoint.heads["assessment"] = found.head
    measured = {**found.measured, "command": command_line()}
    checkpoint.provenance["calibration"] = {**checkpoint.provenance.get("calibration", {}), player.name: measured}
    write_agent(checkpoint, path)
    figure = evaluation.reliability_figure(found.predicted, found.solved, title=f"{player.name}, development tasks")
    evaluation.save_figure(figure, path.with_name(f"reliability-{player.name}.png"))
    scores = ", ".join(f"{key} {value:.3f}" for key, value in found.measured.items() if isinstance(value, float))
    console.print(f"wrote {path}: {found.measured['tasks']} tasks, {scores}", highlight=False, soft_wrap=True)


@app.command
def bench(
    what: tyro.conf.Positional[Literal["planners"]],
    agent: str = "pointmaze-umaze",
    out: Path = Path("runs/bench"),
    tasks: int = 100,
    quick: bool = False,
    device: str = "auto",
) -> None:
    """Measure every planner on one world model: success, cost of a plan, scaling, and use of the machine.

    Args:
        what: What to measure.
        agent: A task with a shipped checkpoint, or the path of your own.
        out: Directory for planners.json and planners.png. The same command continues an interrupted run.
        tasks: Held-out tasks for each planner, with goals 100 steps away.
        quick: Only check in a minute or two that everything works; this is not a result.
        device: auto, cpu or cuda.
    """
    from wm_agents.evaluation.bench import bench_planners

    bench_planners(agent, out=out, tasks=tasks, quick=quick, device=device, console=console)
    console.print(f"wrote {out}/{what}.json and {out}/{what}.png", highlight=False, soft_wrap=True)


@app.command
def report(
    out: Path = Path("runs/report"),
    quick: bool = False,
    tasks: tuple[str, ...] = (),
    agents: tuple[str, ...] = (),
    protocols: tuple[str, ...] = (),
    checkpoints: tuple[str, ...] = (),
    tasks_per_cell: int | None = None,
    num_envs: int = 20,
    workers: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    videos: bool = True,
    timing: bool = True,
    measure: bool = True,
    device: str = "auto",
) -> None:
    """Compare the shipped agents on every task: success with intervals, paired tests, cost, and the papers' numbers.

    Args:
        out: Directory for report.md, report.json, figures and videos. The same command continues an interrupted run,
            and another one adds to the report: only missing cells are measured.
        quick: 20 tasks per cell instead of 200, goals up to 50 steps away, planners only as shipped, and no videos.
        tasks: Task names; by default all tasks that have a checkpoint.
        agents: By default gc-idm, gc-idm-told, hierarchical, cem-mpc, cem-mpc+gc-idm, mppi, icem, gradient-adam and
            gradient-sgd; other shipped agents work too.
        protocols: any and any-2 (two sets of random starts and goals, with the environment's own limit), or
            OFFSET/BUDGET in environment steps; by default any, any-2, 25/50, 50/100 and 100/200, and with --quick only
            25/50 and 50/100.
        checkpoints: Other training seeds: files, or a pattern such as runs/{task}-{seed}/agent.safetensors.
        tasks_per_cell: Held-out tasks for each cell, if not 200 (or 20 with --quick).
        num_envs: Environments that share a call.
        workers: Number of processes, each with one thread; by default one per core.
        precision: Precision of the planners' rollouts; auto is bf16 if the CPU supports it and the planner samples.
        videos: Record the first tasks of each cell.
        timing: After the cells, compare the time of a GC-IDM decision and of a CEM plan of the papers' size.
        measure: Measure the missing cells; --no-measure only reports the cells that exist.
        device: auto, cpu or cuda.
    """
    from wm_agents.evaluation.report import AGENTS, run_report

    run_report(
        out,
        tasks=tasks,
        agents=agents or tuple(AGENTS),
        protocols=protocols,
        checkpoints=checkpoints,
        quick=quick,
        tasks_per_cell=tasks_per_cell,
        num_envs=num_envs,
        workers=workers,
        precision=precision,
        device=device,
        videos=videos,
        timing=timing,
        measure=measure,
        command=command_line(),
        console=console,
    )
    console.print(f"wrote {out}/report.md, report.json and figures", highlight=False, soft_wrap=True)


@app.command
def study(
    name: tyro.conf.Positional[Literal["latent-actions", "learned-latent-actions", "sensorimotor"]],
    out: Path | None = None,
    quick: bool = False,
    task: str = "pointmaze-umaze",
) -> None:
    """Run a study: planners in latent action spaces, or what the latents of sensorimotor world models hold.

    Args:
        name: latent-actions (synthetic worlds, compared with the paper), learned-latent-actions (on a shipped world
            model's latents), or sensorimotor (dot worlds).
        out: Directory for JSON, Markdown and figures; by default runs/<name>.
        quick: Only check in a minute that everything works; this is not a result.
        task: Task whose world model the learned latent actions are built on.
    """
    from wm_agents.evaluation.files import check_output
    from wm_agents.recipes import recipe
    from wm_agents.studies import latent_actions, learned_latents, sensorimotor

    folder = out or Path("runs") / name
    check_output(folder, folder=True)
    if name == "latent-actions":
        latent_actions.run(folder, quick=quick)
    elif name == "sensorimotor":
        sensorimotor.run(folder, quick=quick)
    else:
        learned_latents.run(folder, recipe(task).task, quick=quick)
    console.print(f"wrote {folder}", highlight=False, soft_wrap=True)
