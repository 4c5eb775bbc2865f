"""The latent graph: shortest ways, what is out of reach, and how it is built from episodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.models import LatentGraph, LatentGraphConfig
from wm_agents.training import GraphConfig, fit_graph
from wm_agents.training.graph import k_means, transitions

pytest_plugins = ["trained"]


def graph_of(latents: torch.Tensor, edges: list[tuple[int, int, float]]) -> LatentGraph:
    """A graph with these edges: source, target, steps."""
    graph = LatentGraph(LatentGraphConfig(latents.shape[1], len(latents), len(edges), 0))
    graph.latents.copy_(latents)
    for index, (source, target, steps) in enumerate(edges):
        graph.sources[index], graph.targets[index], graph.steps[index] = source, target, steps
    return graph


def test_routes_are_those_of_all_pairs_shortest_paths() -> None:
    rng = np.random.default_rng(0)
    n = 30
    pairs = {(int(a), int(b)) for a, b in rng.integers(n, size=(90, 2)) if a != b}
    edges = [(a, b, float(rng.uniform(1, 9))) for a, b in sorted(pairs)]
    expected = np.full((n, n), np.inf)
    np.fill_diagonal(expected, 0)
    for a, b, steps in edges:
        expected[a, b] = min(expected[a, b], steps)
    for via in range(n):  # Floyd and Warshall
        expected = np.minimum(expected, expected[:, [via]] + expected[[via]])
    assert np.isinf(expected).any()
    graph = graph_of(torch.randn(n, 3), edges)
    weights = {(a, b): steps for a, b, steps in edges}
    for goal in range(n):
        steps, following = graph.routes(goal)
        np.testing.assert_allclose(steps, expected[:, goal], rtol=1e-6)
        for node in range(n):
            if node == goal or np.isinf(steps[node]):
                assert following[node] == node
            else:
                assert weights[node, following[node]] + steps[following[node]] == pytest.approx(steps[node])
    for start in range(n):
        np.testing.assert_array_equal(graph.reachable(start), np.isfinite(expected[start]))


def test_a_goal_out_of_reach_is_stood_for_by_the_nearest_reachable_node() -> None:
    line = torch.arange(5.0).unsqueeze(1)
    graph = graph_of(line, [(0, 1, 1.0), (1, 2, 1.0), (4, 3, 1.0), (3, 2, 1.0)])
    assert np.isinf(graph.routes(4)[0][0])
    assert graph.nearest_reachable(0, 4) == 2
    assert graph.nearest_reachable(4, 0) == 2
    assert graph.nearest_reachable(4, 3) == 3


def test_the_nearest_node_and_its_distance() -> None:
    graph = graph_of(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), [])
    node, distance = graph.nearest(torch.tensor([[0.0, 1.0], [3.0, 4.0]]))
    assert node.tolist() == [0, 1]
    torch.testing.assert_close(distance, torch.tensor([1.0, 0.0]))


def test_edges_weigh_the_steps_from_entering_one_node_to_entering_the_next() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2, 9, 0, 1, 1, 1, 1, 2])  # two episodes; frame 6 belongs to neither
    sources, targets, steps = transitions(labels, np.array([0, 7]), np.array([5, 5]), support=2)
    assert list(zip(sources, targets, steps, strict=True)) == [(0, 1, 1.5), (1, 2, 3.5)]
    assert transitions(labels, np.array([0, 7]), np.array([5, 5]), support=3)[0].size == 0
    assert transitions(np.zeros(4, np.int64), np.array([0]), np.array([3]), support=1)[0].size == 0


def test_k_means_finds_clusters_apart() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = 0.1 * torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))
    points = (centres.unsqueeze(1) + noise).flatten(0, 1)
    rng = np.random.default_rng(next(seed for seed in range(99) if one_of_each(seed)))
    assert torch.cdist(centres, k_means(points, 3, rng)).min(dim=1).values.max() < 0.1
    assert len(k_means(points, 40, np.random.default_rng(0)).unique(dim=0)) == 40


def one_of_each(seed: int) -> bool:
    """Whether the first centres that this seed draws lie in different clusters: k-means does not leave a bad start."""
    return len(set(np.random.default_rng(seed).choice(150, 3, replace=False) // 50)) == 3


@pytest.fixture(scope="module")
def graph(trained: Any, small_dataset: Any) -> LatentGraph:
    return fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=60, support=1), progress=False)


def test_nodes_are_recorded_frames_of_the_training_split(graph: Any, trained: Any, small_dataset: Any) -> None:
    frames = graph.frames.numpy()
    assert len(set(frames)) == graph.config.nodes <= 60
    assert set(frames) <= set(small_dataset.split(0.1)[0].frame_indices())
    np.testing.assert_array_equal(graph.states.numpy(), small_dataset.states[frames].astype(np.float32))
    with torch.no_grad():
        again = trained.world_model.encode(torch.from_numpy(small_dataset.pixels[frames]))
    torch.testing.assert_close(graph.latents, again, atol=1e-4, rtol=1e-4)
    assert (graph.steps > 0).all()
    assert float(graph.steps_per_unit) > 0
    assert float(graph.radius) > 0


def test_edges_are_short_and_most_of_the_maze_is_connected(graph: Any) -> None:
    places = graph.states[:, :2].numpy()
    lengths = np.linalg.norm(places[graph.sources] - places[graph.targets], axis=1)
    assert np.median(lengths) < 0.8, "neighbours in latent space are neighbours in the maze"
    assert np.isfinite(graph.routes(0)[0]).mean() > 0.5


def test_the_same_seed_gives_the_same_graph(graph: Any, trained: Any, small_dataset: Any) -> None:
    again = fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=60, support=1), progress=False)
    for name, value in graph.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_bad_input_is_refused(trained: Any, small_dataset: Any) -> None:
    for options in ({"nodes": 1}, {"support": 0}):
        with pytest.raises(ValueError, match="at least"):
            GraphConfig(**options)
    with pytest.raises(ValueError, match="frames to choose 10000 nodes from: ask for fewer"):
        fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=10_000), progress=False)
    other = dataclasses.replace(small_dataset, actions=np.zeros((len(small_dataset.actions), 3), np.float32))
    with pytest.raises(ValueError, match="actions of size 3"):
        fit_graph(trained.world_model, other, progress=False)
    with pytest.raises(ValueError, match=r"LatentGraphConfig\.nodes must be a whole number of at least 1"):
        LatentGraphConfig(nodes=0)
