"""Building the latent graph: landmarks among recorded frames, edges where the data goes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wm_agents.models import LatentGraph, LatentGraphConfig, WorldModel
from wm_agents.models.fingerprint import fingerprint
from wm_agents.training.heads import check_dataset_fits, encode_frames

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

ROUNDS = 20  # of k-means; assignments hardly change after that
POINTS = 20_000  # frames that k-means sees: enough for some hundred centres
NEAR = 5  # steps: how far apart two frames are when the unit of distance is measured
SUPPORT = 0.999  # share of the recorded frames that lie within the radius


@dataclass(frozen=True)
class GraphConfig:
    """How a latent graph is built.

    Attributes:
        nodes: Landmarks; dead ends among them are left out.
        support: Transitions that an edge needs: below 2, a single misplaced frame opens a way through a wall.
        validation_fraction: Of the episodes, left out; the same split as the world model's.
        seed: Of the first landmarks.
    """

    nodes: int = 300
    support: int = 3
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nodes < 2 or self.support < 1:
            raise ValueError("a graph needs at least 2 nodes, and an edge the support of at least 1 transition.")


@torch.no_grad()
def fit_graph(
    world_model: WorldModel, dataset: TrajectoryDataset, config: GraphConfig | None = None, *, progress: bool = True
) -> LatentGraph:
    """Build a latent graph in seconds, or minutes with thousands of nodes; nothing is trained.

    Nodes are the recorded frames nearest to the centres that k-means finds among the latents. Each frame belongs to
    its nearest node; an edge leads from a node to the one that the data enters next, and weighs the mean steps between
    entering the one and entering the other.

    Args:
        world_model: Its encoder is used.
        dataset: Of the environment that the world model knows.
        config: Options.
        progress: Show a bar while frames are encoded.

    Raises:
        ValueError: The dataset does not fit the world model, has fewer frames than the graph nodes, or connects none.
    """
    config = config or GraphConfig()
    check_dataset_fits(world_model, dataset)
    train = dataset.split(config.validation_fraction)[0]
    frames = train.frame_indices()
    if len(frames) < config.nodes:
        raise ValueError(
            f"{dataset.name} has {len(frames)} frames to choose {config.nodes} nodes from: ask for fewer nodes."
        )
    latents = encode_frames(world_model, train, progress=progress)
    points = latents[torch.from_numpy(frames)]
    rng = np.random.default_rng(config.seed)
    seen = rng.choice(len(points), max(config.nodes, min(POINTS, len(points))), replace=False)
    centres = k_means(points[torch.from_numpy(seen)], config.nodes, rng)
    chosen = frames[torch.cdist(centres, points).argmin(dim=1).unique().cpu().numpy()]
    labels = np.full(len(dataset.pixels), -1)
    alive = np.ones(len(chosen), dtype=bool)
    while True:  # without dead ends: nodes that no edge enters, or none leaves
        chosen = chosen[alive]
        nodes = latents[torch.from_numpy(chosen)]
        distance, label = assign(points, nodes)
        labels[frames] = label.cpu().numpy()
        edges = transitions(labels, train.starts, train.lengths, config.support)
        alive = np.isin(np.arange(len(chosen)), edges[0]) & np.isin(np.arange(len(chosen)), edges[1])
        if alive.all():
            break
        if alive.sum() < 2:
            raise ValueError(
                f"{dataset.name} does not go from one of {config.nodes} nodes to another {config.support} times: ask "
                "for fewer nodes or less support, or collect more data."
            )
    sizes = LatentGraphConfig(world_model.config.latent_size, len(chosen), len(edges[0]), dataset.states.shape[1])
    graph = LatentGraph(sizes).to(points.device)
    first = train.segments(10_000, NEAR, rng)
    moved = (latents[torch.from_numpy(first + NEAR)] - latents[torch.from_numpy(first)]).norm(dim=1)
    values = {
        "latents": nodes,
        **dict(zip(("sources", "targets", "steps"), map(torch.from_numpy, edges), strict=True)),
        "frames": torch.from_numpy(chosen),
        "states": torch.from_numpy(dataset.states[chosen]),
        "steps_per_unit": NEAR / moved.mean(),
        "fingerprint": fingerprint(world_model),
        "radius": torch.quantile(distance[torch.from_numpy(seen)], SUPPORT),
    }
    graph.load_state_dict(values)
    return graph.eval()


def k_means(points: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Lloyd's algorithm from ``count`` random points of ``[F, D]``; a centre that loses all its points stays."""
    centres = points[torch.from_numpy(rng.choice(len(points), count, replace=False))]
    for _ in range(ROUNDS):
        label = assign(points, centres)[1]
        sums = torch.zeros_like(centres).index_add_(0, label, points)
        counts = torch.bincount(label, minlength=count).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def assign(points: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance to and index of the nearest of ``centres [N, D]`` for each of ``points [F, D]``."""
    parts = [torch.cdist(part, centres).min(dim=1) for part in points.split(8192)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def transitions(
    labels: np.ndarray, starts: np.ndarray, lengths: np.ndarray, support: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges from the nodes that episodes enter one after the other.

    Args:
        labels: int64, the node of each frame.
        starts: int64 ``[episodes]``, first frame of each episode.
        lengths: int64 ``[episodes]``, its actions.
        support: Transitions that an edge needs.

    Returns:
        Sources and targets, int64 ``[E]``, in order, and the mean steps from entering the one to entering the other,
        float32 ``[E]``.
    """
    pairs, steps = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for start, length in zip(starts, lengths, strict=True):
        episode = labels[start : start + length + 1]
        entered = np.flatnonzero(np.diff(episode, prepend=-1))
        pairs.append(np.stack([episode[entered[:-1]], episode[entered[1:]]], axis=1))
        steps.append(np.diff(entered))
    edges, which, counts = np.unique(np.concatenate(pairs), axis=0, return_inverse=True, return_counts=True)
    mean = np.bincount(which.reshape(-1), np.concatenate(steps), minlength=len(edges)) / np.maximum(counts, 1)
    kept = counts >= support
    return edges[kept, 0], edges[kept, 1], mean[kept].astype(np.float32)
