"""OGBench's own visual cube tasks: its scene, camera, five goals and success test, with data of its scripted oracle.

    python examples/benchmarks/ogbench_cube.py record single --episodes 300
    python examples/benchmarks/ogbench_cube.py train single --episodes 300
    python examples/benchmarks/ogbench_cube.py evaluate single --episodes 50
    python examples/benchmarks/ogbench_cube.py evaluate single --episodes 5 --original
    python examples/benchmarks/ogbench_cube.py all double --episodes 300 --goals 50
    python examples/benchmarks/ogbench_cube.py all single --quick         # only checks that it runs, in a minute or two

Each recorded episode, each training and each goal of an agent is kept: the same command continues.

Without a GPU, OGBench's rendering is slow: shadows, and 185,489 triangles on 64 by 64 pixels. Here the shadows are left
out and the meshes have fewer triangles; ``--original`` draws everything, to show what that changes.

Sources: the play data follow OGBench's ``generate_manipspace.py`` (oracle, noise 0.1, episodes of 1,001 steps, a new
target with any yaw whenever the oracle is done), the evaluation its protocol (50 episodes for each of five goals,
success at the last step). Published: arXiv 2410.20092.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console

import wm_agents
from wm_agents import datasets, pipeline
from wm_agents.envs.rendering import choose_backend
from wm_agents.evaluation import Cell, Grid, Runner
from wm_agents.evaluation.files import file_sha256
from wm_agents.evaluation.report.markdown import table
from wm_agents.evaluation.statistics import wilson_interval
from wm_agents.models import InverseDynamicsConfig, StepsToGoalConfig
from wm_agents.recipes import CUBE, MANIPULATION, SENSORIMOTOR, Data, Recipe, Stage
from wm_agents.training import (
    GraphConfig,
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    TrainingConfig,
)

STEPS, QUICK_STEPS = 1001, 60
"""Actions in an episode of play."""
LIMITS = {"single": 200, "double": 500}
"""Steps that an agent has for a goal."""
CUBES = {"single": 1, "double": 2}
PLAY = "play"
"""Folder of the recorded episodes."""
STACKED = {"single": 0.0, "double": 0.25}
"""The share of targets on top of another cube is drawn from 0 to this, once an episode."""


def make(cubes: str, original: bool = False, **options: Any) -> gym.Env:
    """OGBench's environment as ``visual-cube-*-v0`` has it, drawn quickly unless ``original``. One in a process."""
    choose_backend()
    from ogbench.manipspace.envs.cube_env import CubeEnv

    env = CubeEnv(cubes, ob_type="pixels", width=64, height=64, visualize_info=False, **options)
    if not original:
        compiled = env.post_compilation

        def simplified() -> None:
            compiled()
            simplify(env.model)

        env.post_compilation = simplified
    return env


def simplify(model: Any, cell: float = 0.008) -> None:
    """Leave shadows out, and draw meshes with the vertices of one in each cell of 8 mm, where a pixel shows 15 mm.

    Only what is drawn changes: collisions are computed with the convex hulls, which stay.
    """
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    for mesh in range(model.nmesh):
        vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        rows = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
        cells = np.floor(vertices / cell).astype(int)
        _, first, cell_of = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        faces = first[cell_of.ravel()][model.mesh_face[rows]]
        corners = np.sort(faces, axis=1)
        _, kept = np.unique(corners, axis=0, return_index=True)
        kept = np.sort(kept[(np.diff(corners[kept], axis=1) > 0).all(axis=1)])
        normals = model.mesh_facenormal[rows][kept]
        rows = slice(rows.start, rows.start + len(kept))
        model.mesh_face[rows], model.mesh_facenormal[rows], model.mesh_facenum[mesh] = faces[kept], normals, len(kept)


def read_state(info: dict[str, Any], cubes: str) -> dict[str, float]:
    """What a frame shows, by name: what probes try to read from latents.

    A turned gripper looks the same after half a turn, and a cube after a quarter, so angles are cosine and sine of
    twice and of four times the yaw.
    """
    position, yaw = info["proprio/effector_pos"], float(info["proprio/effector_yaw"][0])
    found = {f"gripper_{axis}": float(number) for axis, number in zip("xyz", position, strict=True)}
    found |= {"gripper_cos_2yaw": np.cos(2 * yaw), "gripper_sin_2yaw": np.sin(2 * yaw)}
    found["gripper_opening"] = float(info["proprio/gripper_opening"][0])
    for cube in range(CUBES[cubes]):
        position, yaw = info[f"privileged/block_{cube}_pos"], float(info[f"privileged/block_{cube}_yaw"][0])
        found |= {f"cube{cube}_{axis}": float(number) for axis, number in zip("xyz", position, strict=True)}
        found |= {f"cube{cube}_cos_4yaw": np.cos(4 * yaw), f"cube{cube}_sin_4yaw": np.sin(4 * yaw)}
    return found


def play(cubes: str, episodes: list[int], steps: int, folder: Path) -> None:
    """Record those of the episodes that are not there yet, each as an npz of its own, with what draws them again."""
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    env: Any = make(cubes, mode="data_collection")
    oracle = CubePlanOracle(env=env, noise=0.1, noise_smoothing=0.5)
    for episode in episodes:
        path = folder / f"{episode:05d}.npz"
        if path.exists():
            continue
        np.random.seed(episode)  # the oracle draws from numpy's own generator
        stacked = np.random.uniform(0, STACKED[cubes])
        frame, info = env.reset(seed=episode)
        oracle.reset(frame, info)
        frames, actions, infos = [frame], [], [info]
        for _ in range(steps):
            if oracle.done:
                oracle.reset(*env.set_new_target(p_stack=stacked))
            action = np.clip(oracle.select_action(frame, info), -1, 1)
            frame, _, _, _, info = env.step(action)
            frames.append(frame)
            actions.append(action)
            infos.append(info)
        states = [list(read_state(one, cubes).values()) for one in infos]
        moved = {name: np.stack([one[name] for one in infos]) for name in ("qpos", "qvel")}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, frames=np.stack(frames), actions=np.stack(actions), states=np.array(states), **moved)
        partial.rename(path)
        if episode % 20 == 0:
            print(f"episode {episode}", flush=True)
    env.close()


def record(cubes: str, episodes: int, work: Path, workers: int, quick: bool) -> None:
    """Record play and write it as the dataset ``ogbench/visual-cube-*-play-v0``."""
    folder = work / PLAY
    folder.mkdir(parents=True, exist_ok=True)
    shares = [list(range(first, episodes, workers)) for first in range(workers)]
    steps = QUICK_STEPS if quick else STEPS
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(play, [(cubes, share, steps, folder) for share in shares], chunksize=1)

    def part(name: str) -> Iterator[np.ndarray]:
        for episode in range(episodes):
            with np.load(folder / f"{episode:05d}.npz") as stored:
                yield stored[name]

    env: Any = make(cubes, mode="data_collection")
    names = list(read_state(env.reset(seed=0)[1], cubes))
    env.close()
    datasets.from_episodes(
        part("frames"),
        part("actions"),
        states=part("states"),
        state_names=names,
        name=dataset(cubes, quick),
        action_low=-1,
        action_high=1,
        env_id=f"visual-cube-{cubes}-v0",
        overwrite=True,
    )


def dataset(cubes: str, quick: bool = False) -> str:
    """The Minari id of the recorded play."""
    return f"ogbench/visual-cube-{cubes}-{'quick' if quick else 'play'}-v0"


def evaluate(
    file: Path, name: str, cubes: str, task: int, episodes: int, seed: int, original: bool, limit: int
) -> dict[str, Any]:
    """Which episodes of one of the five goals an agent solved, ``"reached"``."""
    agent = None if name == "random" else wm_agents.load(file, agent=name)
    env: Any = make(cubes, original)
    rng, reached = np.random.default_rng([seed, task]), []
    for episode in range(episodes):
        np.random.seed(seed + episode)
        env.action_space.seed(seed + episode)
        frame, info = env.reset(seed=seed + 1000 * task + episode, options={"task_id": task})
        goal, terminated = info["goal"], False
        for _ in range(limit):
            observation = {"pixels": frame, "goal_pixels": goal}
            action = rng.uniform(-1, 1, 5) if agent is None else agent.predict(observation)[0]
            frame, _, terminated, _, info = env.step(action)
            if terminated:
                break
        reached.append(bool(info["success"]))
    env.close()
    return {"reached": reached}


def cells(given: argparse.Namespace, out: Path) -> list[Cell]:
    """One cell for each agent and goal."""
    file, drawn = out / pipeline.AGENT_FILE, "original" if given.original else "simplified"
    episodes, limit = (1, 10) if given.quick else (given.goals or given.episodes, LIMITS[given.cubes])
    found = []
    for name in given.agents:
        for task in range(1, 6):
            key = {"agent": name, "task": task, "episodes": episodes, "seed": given.seed, "drawn": drawn}
            key["checkpoint_sha256"] = "" if name == "random" else file_sha256(file)
            measure = functools.partial(
                evaluate, file, name, given.cubes, task, episodes, given.seed, given.original, limit
            )
            found.append(Cell(f"{name}_{drawn}_seed-{given.seed}_n-{episodes}_goal-{task}", key, measure))
    return found


def page(grid: Grid, wanted: list[Cell]) -> str:
    """The table of the goals that were measured, as Markdown."""
    rows = []
    for name, drawn in dict.fromkeys((cell.key["agent"], cell.key["drawn"]) for cell in wanted):
        mine = [cell for cell in wanted if cell.key["agent"] == name]
        reached = [found["reached"] for cell in mine if (found := grid.read(cell)) is not None]
        each = [f"{100 * np.mean(goal):.0f}" for goal in reached]
        solved = np.concatenate(reached)
        low, high = (100 * bound for bound in wilson_interval(int(solved.sum()), len(solved)))
        rows.append((name, drawn, len(solved), *each, f"{100 * solved.mean():.1f} [{low:.0f}, {high:.0f}]"))
    return "\n".join(table(("agent", "drawn", "episodes", *(f"goal {task}" for task in range(1, 6)), "success"), rows))


def recipe(cubes: str, episodes: int) -> Recipe:
    """How the agents are made: like those of ``wm/Cube-Single-v0``, for goals that are further away."""
    return Recipe(
        f"visual-cube-{cubes}-v0",
        {"main": Data("oracle-play", episodes, STEPS)},
        (
            Stage(
                "world-model",
                MANIPULATION,
                TrainingConfig(
                    steps=5000, batch_size=128, frames=2, loss_weights={**SENSORIMOTOR, "reconstruction": 1.0}
                ),
            ),
            Stage("predictor", training=PredictorTrainingConfig(steps=2000, batch_size=128, blocks=5)),
            Stage(
                "gc-idm",
                InverseDynamicsConfig(width=512, max_horizon=100),
                InverseDynamicsTrainingConfig(steps=12_000, unknown_fraction=0.3, hidden_past=0.3),
            ),
            Stage("steps-to-goal", StepsToGoalConfig(max_steps=150)),
            Stage("graph", training=GraphConfig(nodes=3000, support=2)),
        ),
        {"hierarchical": CUBE["hierarchical"]},
    )


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "train", "evaluate", "all"))
    parser.add_argument("cubes", choices=sorted(LIMITS))
    parser.add_argument("--episodes", type=int, default=300, help="recorded ones; of each goal, for evaluate alone")
    parser.add_argument("--goals", type=int, help="episodes of each goal; OGBench's protocol has 50")
    parser.add_argument("--out", type=Path, help="by default runs/ogbench, or runs/ogbench-quick")
    parser.add_argument("--agents", nargs="+", default=["gc-idm", "hierarchical", "random"])
    parser.add_argument("--seed", type=int, default=0, help="of training; or of what is drawn for the evaluation")
    parser.add_argument("--original", action="store_true", help="evaluate with OGBench's own rendering")
    parser.add_argument("--workers", type=int, default=2, help="processes that record, and that evaluate goals")
    parser.add_argument("--quick", action="store_true", help="a few short episodes: this is not a result")
    given = parser.parse_args()
    if given.quick:
        given.episodes = 4
    elif given.what == "all" and given.goals is None:
        given.goals = 50
    out = (given.out or Path("runs/ogbench-quick" if given.quick else "runs/ogbench")) / given.cubes
    if given.what in ("record", "all"):
        record(given.cubes, given.episodes, out, given.workers, given.quick)
    if given.what in ("train", "all"):
        made = recipe(given.cubes, given.episodes)
        data = {"main": datasets.load(dataset(given.cubes, given.quick))}
        pipeline.reproduce(made.shortened() if given.quick else made, out, data=data, seed=given.seed)
    if given.what in ("evaluate", "all"):
        grid, wanted = Grid(out / "cells"), cells(given, out)
        with Runner(given.workers, Console(stderr=True)) as runner:
            failed = grid.run(wanted, runner, "goals")
        for name, error in failed.items():
            print(f"{name}: {error}")
        if len(failed) < len(wanted):
            print(page(grid, wanted))


if __name__ == "__main__":
    main()
