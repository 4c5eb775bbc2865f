"""Recipes: lists of stages that are seeded, shortened and run alike; from beginning to end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import wm_agents
from wm_agents import cli, pipeline, recipes
from wm_agents.models import Head, LeWMConfig
from wm_agents.recipes import RECIPES, Data, Recipe, Stage
from wm_agents.registry import HEADS
from wm_agents.training import HeadLearner, ImaginationTrainingConfig, LearnerConfig, TrainingConfig
from wm_agents.training.temporal_distance import TemporalDistanceLearner

pytestmark = pytest.mark.filterwarnings("ignore:latents have collapsed")  # after 30 steps


@dataclass(frozen=True)
class SpeedConfig:
    latent_size: int = 1


class Speed(Head):
    """A head of another package: how much a latent changes within a block."""

    name = "test-speed"
    Config = SpeedConfig

    def __init__(self, config: SpeedConfig) -> None:
        super().__init__(config)
        self.linear = torch.nn.Linear(config.latent_size, 1)


class SpeedLearner(HeadLearner):
    head = Speed
    reads = ("gc-idm",)

    def needs(self) -> tuple[int, str]:
        return 5, "single blocks"

    def loss(self, data: Any, size: int, rng: Any, generator: Any) -> Any:
        first = torch.from_numpy(data.segments(size, 5, rng))
        z, after = self.latents[first], self.latents[first + 5]
        assert isinstance(self.module, Speed)
        error = (self.module.linear(z)[:, 0] - (after - z).norm(dim=1)).square().mean()
        return error, {self.key: error}


Speed.learner = SpeedLearner
HEADS.register("test-speed", Speed)
EVERY = Recipe(
    "wm/PointMaze-UMaze-v0",
    {"main": Data(), "contacts": Data("smooth-random")},
    (
        Stage("world-model", LeWMConfig(latent_size=8, predictor_width=32), TrainingConfig(frames=2)),
        Stage("predictor", data=("main", "contacts")),
        Stage("gc-idm"),
        Stage("imagination", training=ImaginationTrainingConfig(blocks=2)),
        Stage("temporal-distance"),
        Stage("denoiser"),
        Stage("graph"),
        Stage("macro-actions"),
        Stage("waypoints"),
        Stage("latent-actions"),
        Stage("test-speed"),
    ),
    recipes.MAZE,
)
"""Every stage that there is, and one of another package."""


def test_every_stage_takes_the_seed_and_is_shortened() -> None:
    seeded, short = EVERY.seeded(7), EVERY.shortened()
    assert [stage.training.seed for stage in seeded.stages] == [7] * len(EVERY.stages)
    assert [stage.training.seed for stage in EVERY.stages] == [0] * len(EVERY.stages)
    for stage in short.stages:
        assert getattr(stage.training, "steps", 0) <= 30
    assert short.stage("graph").training.nodes <= 20
    assert {(part.episodes, part.steps) for part in short.data.values()} == {(8, 100)}
    assert short.dataset == "wm/pointmaze-umaze/waypoint-fast-v0"
    assert short.dataset_of("contacts") == "wm/pointmaze-umaze/smooth-random-fast-v0"
    assert [stage.name for stage in short.stages] == [stage.name for stage in EVERY.stages]


def test_stages_are_found_and_left_out_by_name() -> None:
    assert "denoiser" not in [stage.name for stage in EVERY.without("denoiser", "graph").stages]
    assert EVERY.stage("gc-idm").data == ("main",)
    for wrong in (EVERY.stage, EVERY.without):
        with pytest.raises(ValueError, match=r"Unknown stage of the recipe 'denoisr'. Did you mean 'denoiser'"):
            wrong("denoisr")


def test_recipes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown stage of training 'gcidm'. Did you mean 'gc-idm'"):
        Stage("gcidm")
    with pytest.raises(ValueError, match=r"data of the stage 'gc-idm' 'mian'. Did you mean 'main'"):
        Recipe("wm/TwoRoom-v0", stages=(Stage("gc-idm", data=("mian",)),))
    with pytest.raises(ValueError, match="'gc-idm' stands twice"):
        Recipe("wm/TwoRoom-v0", stages=(Stage("gc-idm"), Stage("gc-idm")))
    with pytest.raises(ValueError, match=r"episodes must be a whole number of at least 1"):
        Data(episodes=0)
    with pytest.raises(ValueError, match="Did you mean 'pusht'"):
        recipes.recipe("push")


@pytest.mark.parametrize("task", RECIPES)
def test_the_stages_of_a_task_come_after_what_they_need(task: str) -> None:
    made = [stage.name for stage in RECIPES[task].stages]
    assert made[0] == "world-model"
    assert "imagination" not in made or made.index("gc-idm") < made.index("imagination")
    assert recipes.recipe(RECIPES[task].env_id) is RECIPES[task]
    assert recipes.recipe(f"wm_agents:{RECIPES[task].env_id}") is RECIPES[task]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_arguments_write_the_same_file_in_one_go_or_two(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr("wm_agents.training.learner.VALIDATION_SAMPLES", 64)
    few = {"steps": 4, "batch_size": 16, "evaluate_every": 2}
    stages = [
        stage
        if stage.name == "graph"
        else dataclasses.replace(stage, training=dataclasses.replace(stage.training, **few))
        for stage in EVERY.shortened().stages
    ]
    short = dataclasses.replace(EVERY.shortened(), stages=tuple(stages))

    def make(name: str) -> str:
        pipeline.reproduce(short, tmp_path / name, command="a test", device="cpu", progress=False)
        return hashlib.sha256((tmp_path / name / pipeline.AGENT_FILE).read_bytes()).hexdigest()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        uninterrupted = make("at once")
        with monkeypatch.context() as patch:
            patch.setattr(TemporalDistanceLearner, "fit", stop)
            with pytest.raises(KeyboardInterrupt):
                make("in two")
        assert not (tmp_path / "in two" / pipeline.AGENT_FILE).exists()
        assert make("in two") == uninterrupted
        assert make("in two") == uninterrupted
    finally:
        torch.set_num_threads(before)
    logs = ["".join(p.read_text() for p in sorted((tmp_path / n).glob("progress*.csv"))) for n in ("at once", "in two")]
    curves = ("prediction", "gc_idm", "imagination", "temporal_distance", "macro_actions", "test_speed")
    for curve in (f"validation/{name}" for name in curves):
        assert all(curve in log for log in logs), "curves of both halves are kept"
    assert (tmp_path / "in two" / "progress-1.csv").exists()
    agent = wm_agents.load(tmp_path / "at once" / pipeline.AGENT_FILE, device="cpu")
    heads = {stage.name for stage in EVERY.stages} - {"world-model", "predictor", "imagination"}
    assert (agent.name, set(agent.heads)) == ("gc-idm", heads)
    assert agent.heads["gc-idm"].config.dropout == 0, "practice in imagination replaced it"
    assert agent.provenance["threads"] == threads
    assert len(agent.provenance["recipe"]["stages"]) == len(EVERY.stages)


def test_a_stage_without_a_world_model_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    lacking = dataclasses.replace(EVERY.shortened(), stages=(Stage("gc-idm"),))
    with pytest.raises(ValueError, match="the stage 'gc-idm' learns on a world model: put a stage before it"):
        pipeline.reproduce(lacking, tmp_path / "run", progress=False)


def test_the_command_evaluates_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    short = recipes.recipe("pointmaze-umaze").without("denoiser").shortened()
    monkeypatch.setattr(recipes, "recipe", lambda _: short)
    cli.reproduce("pointmaze-umaze", tmp_path / "run", tasks=2)
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'run' / pipeline.AGENT_FILE}" in said
    for name in ("gc-idm", "cem"):
        content = json.loads((tmp_path / "run" / f"{name}.json").read_text())
        assert (content["agent"], content["tasks"], content["budget"]) == (name, 2, short.budget)
        assert content["floors"].keys() == {"random", "noop"}
        assert name in said


def test_options_of_a_plug_in_are_those_of_its_learner() -> None:
    assert Stage("test-speed").training == LearnerConfig()
    assert Stage("world-model").training == TrainingConfig()
