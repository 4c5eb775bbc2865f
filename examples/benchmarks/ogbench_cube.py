"""OGBench's own visual cube tasks: its scene, camera, five goals and success test, with data of its scripted oracle.

    python examples/benchmarks/ogbench_cube.py record single --episodes 300
    python examples/benchmarks/ogbench_cube.py train single --episodes 300
    python examples/benchmarks/ogbench_cube.py evaluate single --episodes 50
    python examples/benchmarks/ogbench_cube.py evaluate single --episodes 5 --original

Without a GPU, OGBench's rendering is slow: shadows, and 185,489 triangles on 64 by 64 pixels. Here the shadows are left
out and the meshes have fewer triangles; ``--original`` draws everything, to show what that changes.

Sources: the play data follow OGBench's ``generate_manipspace.py`` (oracle, noise 0.1, episodes of 1,001 steps, a new
target whenever the oracle is done), the evaluation its protocol (50 episodes for each of five goals, success at the
last step). Published: arXiv 2410.20092.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import wm_agents
from wm_agents import datasets, pipeline
from wm_agents.envs.rendering import choose_backend
from wm_agents.evaluation.files import write_json
from wm_agents.evaluation.statistics import wilson_interval
from wm_agents.models import InverseDynamicsConfig, StepsToGoalConfig
from wm_agents.recipes import CUBE, MANIPULATION, SENSORIMOTOR, Data, Recipe, Stage
from wm_agents.training import (
    GraphConfig,
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    TrainingConfig,
)

STEPS = 1001
"""Actions in an episode of play."""
LIMITS = {"single": 200, "double": 500}
"""Steps that an agent has for a goal."""
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


def play(job: tuple[str, int, int, Path]) -> None:
    """Record episodes ``first, first + 2, ...`` that are not there yet, each as an npz of its own."""
    cubes, first, episodes, folder = job
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    env: Any = make(cubes, mode="data_collection")
    oracle = CubePlanOracle(env=env, noise=0.1, noise_smoothing=0.5)
    for episode in range(first, episodes, 2):
        path = folder / f"{episode:05d}.npz"
        if path.exists():
            continue
        np.random.seed(episode)  # the oracle draws from numpy's own generator
        stacked = np.random.uniform(0, STACKED[cubes])
        frame, info = env.reset(seed=episode)
        oracle.reset(frame, info)
        frames, actions, states = [frame], [], [np.concatenate([info["qpos"], info["qvel"]])]
        for _ in range(STEPS):
            if oracle.done:
                oracle.reset(*env.set_new_target(p_stack=stacked))
            action = np.clip(oracle.select_action(frame, info), -1, 1)
            frame, _, _, _, info = env.step(action)
            frames.append(frame)
            actions.append(action)
            states.append(np.concatenate([info["qpos"], info["qvel"]]))
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, frames=np.stack(frames), actions=np.stack(actions), states=np.stack(states))
        partial.rename(path)
        if episode % 20 < 2:
            print(f"episode {episode} of {episodes}", flush=True)
    env.close()


def record(cubes: str, episodes: int, work: Path) -> None:
    """Record play and write it as the dataset ``ogbench/visual-cube-*-play-v0``."""
    folder = work / "episodes"
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(play, [(cubes, first, episodes, folder) for first in (0, 1)], chunksize=1)

    def part(name: str) -> Iterator[np.ndarray]:
        for episode in range(episodes):
            with np.load(folder / f"{episode:05d}.npz") as stored:
                yield stored[name]

    datasets.from_episodes(
        part("frames"),
        part("actions"),
        states=part("states"),
        name=dataset(cubes),
        action_low=-1,
        action_high=1,
        env_id=f"visual-cube-{cubes}-v0",
        overwrite=True,
    )


def dataset(cubes: str) -> str:
    """The Minari id of the recorded play."""
    return f"ogbench/visual-cube-{cubes}-play-v0"


def goals(env: Any, episodes: int, seed: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Reset to every task in turn; yield its number, the first frame and the goal image."""
    for task in range(1, 6):
        for episode in range(episodes):
            np.random.seed(seed + episode)
            env.action_space.seed(seed + episode)
            frame, info = env.reset(seed=seed + 1000 * task + episode, options={"task_id": task})
            yield task, frame, info["goal"]


def evaluate(agent: Any, cubes: str, episodes: int, seed: int, original: bool = False) -> np.ndarray:
    """Success ``[5, episodes]``; without an agent, of random actions."""
    env: Any = make(cubes, original)
    rng, reached = np.random.default_rng(seed), np.zeros((5, episodes), bool)
    for index, (task, frame, goal) in enumerate(goals(env, episodes, seed)):
        for _ in range(LIMITS[cubes]):
            observation = {"pixels": frame, "goal_pixels": goal}
            action = rng.uniform(-1, 1, 5) if agent is None else agent.predict(observation)[0]
            frame, _, terminated, _, info = env.step(action)
            if terminated:
                break
        reached[task - 1, index % episodes] = info["success"]
        if index % episodes == episodes - 1:
            print(f"task {task}: {reached[task - 1].mean():.1%}", flush=True)
    return reached


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "train", "evaluate"))
    parser.add_argument("cubes", choices=sorted(LIMITS))
    parser.add_argument("--episodes", type=int, default=300, help="recorded ones; of each task, when evaluating")
    parser.add_argument("--out", type=Path, default=Path("runs/ogbench"))
    parser.add_argument("--agents", nargs="+", default=["gc-idm", "hierarchical", "random"])
    parser.add_argument("--seed", type=int, default=0, help="of training; or of what is drawn for the evaluation")
    parser.add_argument("--original", action="store_true", help="evaluate with OGBench's own rendering")
    given = parser.parse_args()
    out = given.out / given.cubes
    if given.what == "record":
        record(given.cubes, given.episodes, out)
    elif given.what == "train":
        data = {"main": datasets.load(dataset(given.cubes))}
        pipeline.reproduce(recipe(given.cubes, given.episodes), out, data=data, seed=given.seed)
    for name in given.agents if given.what == "evaluate" else ():
        agent = None if name == "random" else wm_agents.load(out / pipeline.AGENT_FILE, agent=name)
        reached = evaluate(agent, given.cubes, given.episodes, given.seed, given.original)
        low, high = wilson_interval(int(reached.sum()), reached.size)
        print(f"{name}: {reached.mean():.1%} ({low:.0%} to {high:.0%})", flush=True)
        drawn = "original" if given.original else "simplified"
        found = {"tasks": reached.mean(axis=1).tolist(), "episodes": given.episodes, "seed": given.seed}
        write_json(
            out / f"{name}-{drawn}-{given.seed}.json", {**found, "agent": name, "success": float(reached.mean())}
        )


if __name__ == "__main__":
    main()
