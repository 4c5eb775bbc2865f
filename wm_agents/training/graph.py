"""Building the latent graph: landmarks among recorded frames, and edges between successive ones in the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models import LatentGraph, LatentGraphConfig, WorldModel
from wm_agents.training.device import own_modes
from wm_agents.training.learner import HeadLearner, Loss, SplitConfig
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

C = TypeVar("C", bound="GraphConfig")

ROUNDS = 20  # of k-means; assignments hardly change after that
POINTS = 20_000  # frames that k-means sees: enough for some hundred centres
PART = 131_072  # frames whose latents are in memory at a time, a multiple of what `assign` splits
NEAR = 5  # steps: how far apart two frames are when the unit of distance is measured
SUPPORT = 0.999  # share of the recorded frames that lie within the radius


@dataclass(frozen=True)
class GraphConfig(SplitConfig):
    """How a latent graph is built.

    Attributes:
        nodes: Landmarks; dead ends among them are left out.
        support: Transitions that an edge needs. Below 2, a single misplaced frame opens a way through a wall.
        validation_fraction: Fraction of the episodes that is left out, with the same split as for the world model.
        seed: Seed of the first landmarks.
    """

    nodes: int = 300
    support: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("nodes",), least=2)
        check_counts(self, ("support",))

    def shortened(self: C) -> C:
        return replace(self, nodes=min(self.nodes, 20), support=1)


class GraphLearner(HeadLearner):
    """Builds a latent graph in seconds, or in minutes with thousands of nodes. Nothing is trained.

    Nodes are the recorded frames nearest to the centres that k-means finds among the latents. Each frame belongs to
    its nearest node; an edge leads from a node to the one that the data enters next. Its weight is the mean number of
    steps between entering the two.
    """

    head = LatentGraph
    Training = GraphConfig

    def check(self) -> None:
        super().check()
        if self.train_data.frames < self.config.nodes:
            raise ValueError(
                f"{self.dataset.name} has {self.train_data.frames} frames to choose {self.config.nodes} nodes from: "
                "ask for fewer nodes."
            )

    def fit(self, **_: Any) -> History:
        """Build the graph; there is nothing to resume, to log or to call back from."""
        with own_modes(self.device), torch.no_grad():
            self.module = self.build().to(self.device).eval()
            self.finish()
        return {}

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        raise NotImplementedError("a graph is built, not trained.")

    def build(self) -> nn.Module:
        config, data, latents = self.config, self.train_data, self.latents
        frames = data.frame_indices()
        rng = np.random.default_rng(config.seed)
        seen = rng.choice(len(frames), max(config.nodes, min(POINTS, len(frames))), replace=False)
        centres = k_means(latents[torch.from_numpy(frames[seen])], config.nodes, rng)
        chosen = np.unique(nearest_frames(latents, frames, centres))
        chosen, edges, distance = self._connected(chosen, frames)
        near = min(NEAR, int(data.lengths.max()))
        first = data.segments(10_000, near, rng)
        moved = (latents[torch.from_numpy(first + near)] - latents[torch.from_numpy(first)]).norm(dim=1)
        states = self.dataset.states[chosen]
        graph = LatentGraph(LatentGraphConfig(latents.shape[1], len(chosen), len(edges[0]), states.shape[1]))
        graph.load_state_dict(
            {
                "latents": latents[torch.from_numpy(chosen)],
                **dict(zip(("sources", "targets", "steps"), map(torch.from_numpy, edges), strict=True)),
                "frames": torch.from_numpy(chosen),
                "states": torch.from_numpy(states),
                "steps_per_unit": near / moved.mean(),
                "fingerprint": graph.fingerprint,
                "radius": torch.quantile(distance[torch.from_numpy(seen)], SUPPORT),
            }
        )
        return graph

    def _connected(
        self, chosen: np.ndarray, frames: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray], torch.Tensor]:
        """Leave out dead ends, nodes that no edge enters or none leaves: nodes, edges, distances of ``frames``."""
        data, support = self.train_data, self.config.support
        labels = np.full(len(self.dataset.pixels), -1)
        while True:
            centres = self.latents[torch.from_numpy(chosen)]
            parts = [assign(self.latents[torch.from_numpy(part)], centres) for part in _split(frames)]
            distance, label = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
            labels[frames] = label.cpu().numpy()
            edges = transitions(labels, data.starts, data.lengths, support)
            nodes = np.arange(len(chosen))
            alive = np.isin(nodes, edges[0]) & np.isin(nodes, edges[1])
            if alive.all():
                return chosen, edges, distance
            if alive.sum() < 2:
                raise ValueError(
                    f"{data.name} does not go from one of {self.config.nodes} nodes to another {support} times: ask "
                    "for fewer nodes or less support, or collect more data."
                )
            chosen = chosen[alive]


def fit_graph(
    world_model: WorldModel, dataset: TrajectoryDataset, config: GraphConfig | None = None, *, progress: bool = True
) -> LatentGraph:
    """Build a latent graph; see :class:`GraphLearner`.

    Args:
        world_model: Its encoder is used.
        dataset: Data of the environment on which the world model was trained.
        config: Options.
        progress: Show a bar while frames are encoded.

    Raises:
        ValueError: The dataset does not fit the world model, has fewer frames than the graph has nodes, or connects no
            nodes.
    """
    learner = GraphLearner(world_model, dataset, training=config, progress=progress)
    learner.fit()
    return learner.result


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


def nearest_frames(latents: torch.Tensor, frames: np.ndarray, centres: torch.Tensor) -> np.ndarray:
    """The one of ``frames`` (int64 ``[F]``) whose latent is nearest to each of ``centres [N, D]``: int64 ``[N]``."""
    found, distance = np.zeros(len(centres), np.int64), np.full(len(centres), np.inf)
    for part in _split(frames):
        here = torch.cdist(centres, latents[torch.from_numpy(part)]).min(dim=1)
        closer = here.values.cpu().numpy() < distance
        found[closer], distance[closer] = part[here.indices.cpu().numpy()[closer]], here.values.cpu().numpy()[closer]
    return found


def _split(frames: np.ndarray) -> list[np.ndarray]:
    """Parts that are small enough to have their latents, and their distances from all nodes, in memory."""
    return [frames[start : start + PART] for start in range(0, len(frames), PART)]


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
