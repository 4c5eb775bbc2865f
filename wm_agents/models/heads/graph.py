"""The latent graph: latents that were really visited, the steps from each to the next, and shortest paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class LatentGraphConfig:
    """Size of a latent graph.

    Attributes:
        latent_size: D of the world model whose latents are its nodes.
        nodes: N, number of nodes.
        edges: E, number of directed edges.
        state_size: S, numbers in a simulator state; 0 if the data has no states.
    """

    latent_size: int = 32
    nodes: int = 1
    edges: int = 0
    state_size: int = 0

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "nodes"))
        check_counts(self, ("edges", "state_size"), least=0)


class LatentGraph(Head):
    """A directed graph over latents of recorded frames; the weight of an edge is its number of environment steps.

    After Search on the Replay Buffer (arXiv 1906.05253), but edges are transitions seen in the data, so that they do
    not lead through walls. Nothing in it is trained; :func:`wm_agents.training.fit_graph` builds it.

    Attributes:
        latents: float32 ``[N, D]``, the nodes.
        sources: int32 ``[E]``, where edges begin.
        targets: int32 ``[E]``, where they end.
        steps: float32 ``[E]``, environment steps that they take, above 0.
        frames: int32 ``[N]``, the frame of the dataset that each node is.
        states: float32 ``[N, S]``, the simulator states there; for figures and videos only, never for decisions.
        steps_per_unit: Environment steps per unit of distance between near latents.
        radius: Distance from a node within which nearly all recorded frames lie.

    Args:
        config: The size.
    """

    latents: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    steps: torch.Tensor
    frames: torch.Tensor
    states: torch.Tensor
    steps_per_unit: torch.Tensor
    radius: torch.Tensor

    name = "graph"
    Config = LatentGraphConfig
    learner = "wm_agents.training.graph:GraphLearner"

    def __init__(self, config: LatentGraphConfig) -> None:
        super().__init__(config)
        self.register_buffer("latents", torch.zeros(config.nodes, config.latent_size))
        for name in ("sources", "targets"):
            self.register_buffer(name, torch.zeros(config.edges, dtype=torch.int32))
        self.register_buffer("steps", torch.ones(config.edges))
        self.register_buffer("frames", torch.zeros(config.nodes, dtype=torch.int32))
        self.register_buffer("states", torch.zeros(config.nodes, config.state_size))
        self.register_buffer("steps_per_unit", torch.ones(()))
        self.register_buffer("radius", torch.zeros(()))
        self._matrix: csr_matrix | None = None
        self._routes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._detours: dict[tuple[int, int], int] = {}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._matrix, self._routes, self._detours = None, {}, {}  # of the edges before

    def nearest(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The node nearest to each of ``z [B, D]``, int64 ``[B]``, and its distance ``[B]`` in latent units."""
        distance, node = torch.cdist(z, self.latents).min(dim=1)
        return node, distance

    def routes(self, goal: int) -> tuple[np.ndarray, np.ndarray]:
        """Shortest paths from every node to node ``goal`` (Dijkstra). They are kept, because many starts share a goal.

        Returns:
            Steps to the goal, float64 ``[N]``, infinite if there is no path, and the next node on the path, int64
            ``[N]``, the node itself at the goal and if there is no path.
        """
        if goal not in self._routes:
            steps, following = dijkstra(self._edges().T, indices=goal, return_predecessors=True)
            own = np.arange(self.config.nodes)
            self._routes[goal] = steps, np.where(following < 0, own, following).astype(np.int64)
        return self._routes[goal]

    def reachable(self, start: int) -> np.ndarray:
        """Which nodes can be reached from node ``start``, bool ``[N]``."""
        return np.isfinite(dijkstra(self._edges(), indices=start))

    def nearest_reachable(self, start: int, goal: int) -> int:
        """The node nearest to node ``goal``, in latent units, among those that can be reached from ``start``."""
        if (start, goal) not in self._detours:
            distance = (self.latents - self.latents[goal]).norm(dim=1).cpu().numpy()
            self._detours[start, goal] = int(np.where(self.reachable(start), distance, np.inf).argmin())
        return self._detours[start, goal]

    def _edges(self) -> csr_matrix:
        """Steps from node to node, ``[N, N]``."""
        if self._matrix is None:
            nodes, steps = self.config.nodes, self.steps.cpu().double().numpy()
            sources, targets = self.sources.cpu().long().numpy(), self.targets.cpu().long().numpy()
            # Of parallel edges the shortest counts; a sparse matrix would add them up.
            order = np.argsort(steps, kind="stable")
            chosen = order[np.unique((sources * nodes + targets)[order], return_index=True)[1]]
            self._matrix = csr_matrix((steps[chosen], (sources[chosen], targets[chosen])), shape=(nodes, nodes))
        return self._matrix
