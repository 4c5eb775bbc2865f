"""Scores without an environment: models whose answers are known, a command, and what does not fit."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import MARKS, QUIET
from gymnasium import spaces
from torch import nn

from wm_agents import cli
from wm_agents.datasets import from_episodes
from wm_agents.evaluation import offline_scores
from wm_agents.types import LatentSpec

pytest_plugins = ["foreign_files"]
pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore:latents have collapsed")]
BLOCK = 2


def recorded(name: str = "mine/dots-v0", lengths: tuple[int, ...] = (40,) * 12) -> Any:
    """A value that actions move up and down, shown as the brightness of the image."""
    rng = np.random.default_rng(0)
    images, actions = [], []
    for steps in lengths:
        taken = np.clip(rng.normal(0, 6, (steps, 1)).round(), -20, 20)
        values = 120 + np.concatenate([[0.0], np.cumsum(taken)])
        images.append(
            np.broadcast_to(values.clip(0, 255).astype(np.uint8)[:, None, None, None], (steps + 1, 16, 16, 3))
        )
        actions.append(taken)
    return from_episodes(images, actions, name=name, image_size=16, **QUIET)


class Known(nn.Module):
    """A world model whose latent is the brightness; it imagines exactly, or that nothing moves."""

    def __init__(self, data: Any, exact: bool) -> None:
        super().__init__()
        mean, std = data.action_mean_std()
        self.register_buffer("action_mean", torch.from_numpy(mean))
        self.register_buffer("action_std", torch.from_numpy(std))
        self.exact, self.config = exact, SimpleNamespace(history=2)
        self.spec = LatentSpec((1,), 16, 1, BLOCK)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean((-3, -2, -1)).unsqueeze(-1)

    def features(self, latent: torch.Tensor) -> torch.Tensor:
        return latent

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        return actions

    def remember(self, latents: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        assert latents.shape[1] == blocks.shape[1] + 1
        return latents[:, -1]

    def imagine(self, state: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        moved = actions.sum(-1, keepdim=True).cumsum(2) if self.exact else 0 * actions[..., :1]
        return state[:, None, None] + moved


class Player:
    """An agent that moves by what is missing to the goal, or not at all."""

    def __init__(self, data: Any, exact: bool) -> None:
        self.name, self.heads, self.exact = "known", {}, exact
        self.world_model = Known(data, exact)
        self.action_space = spaces.Box(-20, 20, (1,), np.float32)

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None) -> tuple[np.ndarray, Any]:
        now, goal = (observation[key].astype(float).mean((1, 2, 3)) for key in ("pixels", "goal_pixels"))
        return np.stack([(goal - now) / BLOCK], axis=1) * self.exact, None


def test_an_exact_model_and_one_that_stands_still() -> None:
    data = recorded()
    exact = offline_scores(Player(data, True), data, validation_fraction=0.5)
    still = offline_scores(Player(data, False), data, validation_fraction=0.5)
    assert [row.steps for row in exact.rows] == [2, 4, 10, 20]
    for good, bad in zip(exact.rows, still.rows, strict=True):
        assert good.prediction < 1e-6 < bad.prediction
        assert bad.prediction == bad.nothing_moves == good.nothing_moves, "the same pairs"
        assert good.found > 2 * bad.found, "many values are alike, so neither is sure"
        assert good.skill > 0.99
        assert bad.skill <= 0
        assert good.mean_action == pytest.approx(1, abs=0.4)
    assert exact.rows[0].action < exact.rows[0].mean_action < exact.rows[0].last_action
    assert "predicts at least 20 steps ahead" in exact.verdict[0]
    assert "closer to those recorded than both" in exact.verdict[2]
    assert 'no better than "nothing moves"' in still.verdict[0]
    assert "no closer to those recorded than the mean" in still.verdict[2]


def test_the_same_seed_gives_the_same_scores_and_json_holds_them(tmp_path: Path) -> None:
    data = recorded()
    scores = offline_scores(Player(data, True), data, samples=50, seed=3)
    assert scores == offline_scores(Player(data, True), data, samples=50, seed=3)
    assert scores != offline_scores(Player(data, True), data, samples=50, seed=4)
    scores.save(tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["verdict"] == scores.verdict
    assert content["rows"][0]["samples"] == 50


def test_only_held_out_episodes_are_scored_and_short_ones_leave_rows_out() -> None:
    data = recorded(lengths=(40,) * 3 + (9,) * 17)
    held_out = data.split(0.1)[1]
    assert held_out.lengths.tolist() == [9, 9]
    scores = offline_scores(Player(data, True), data)
    assert scores.episodes == 2
    assert [row.blocks for row in scores.rows] == [1, 2]
    assert len(offline_scores(Player(data, True), data, validation_fraction=0).rows) == 4


def test_the_mean_frame_is_that_of_several_moments() -> None:
    data = recorded(lengths=(3 * BLOCK,))
    scores = offline_scores(Player(data, True), data, validation_fraction=0)
    assert [row.blocks for row in scores.rows] == [1, 2]
    assert all(row.mean_frame > 0 and row.skill == 1 for row in scores.rows)


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ((2,) * 4, {}, "the longest of the 1 episodes of mine/dots-v0 to score has 2 actions; 4 are needed"),
        ((40,), {}, "has 1 episode.*needs two or more"),
        ((40,) * 4, {"samples": 0}, "samples must be a whole number of at least 1"),
        ((40,) * 4, {"validation_fraction": 2}, "must lie between 0 and 1"),
        ((40,) * 4, {"validation_fraction": "half"}, "must lie between 0 and 1"),
    ],
)
def test_what_cannot_be_scored(lengths: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    data = recorded(lengths=lengths)
    with pytest.raises(ValueError, match=message):
        offline_scores(Player(data, True), data, **options)


def test_other_images_or_actions_do_not_fit() -> None:
    data = recorded()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8) for _ in range(4)]
    large = from_episodes(images, [np.zeros((8, 1))] * 4, name="mine/large-v0", image_size=32, **QUIET)
    wide = from_episodes(images, [np.zeros((8, 3))] * 4, name="mine/wide-v0", image_size=16, **QUIET)
    with pytest.raises(ValueError, match="Known is no agent with a world model"):
        offline_scores(Player(data, True).world_model, data)
    with pytest.raises(ValueError, match="the data must be a dataset, not str"):
        offline_scores(Player(data, True), "mine/dots-v0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has images of 32 x 32"):
        offline_scores(Player(data, True), large)
    with pytest.raises(ValueError, match="has actions of size 3"):
        offline_scores(Player(data, True), wide)


def test_from_data_without_states_to_scores_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["wm-agents", *words])
        with contextlib.suppress(SystemExit):
            cli.main()
        out, err = capfd.readouterr()
        assert "error:" not in err
        return out

    monkeypatch.chdir(tmp_path)
    recorded()
    assert "mine/dots-v0" in command("list", "datasets")
    short = ("--training", "steps=2", "batch_size=8", "evaluate_every=1")
    command("train", "mine/dots-v0", "--out", "run", "--model", "action_block=2", *short, "frames=3")
    command("fit", "gc-idm", "run/world-model.safetensors", "mine/dots-v0", "--out", "run", *short)
    said = command("score", "run/agent.safetensors", "mine/dots-v0", "--samples", "20", "--json", "scores.json")
    assert "nothing moves" in said
    assert "For near goals" in said
    assert len(json.loads(Path("scores.json").read_text())["rows"]) == 4
