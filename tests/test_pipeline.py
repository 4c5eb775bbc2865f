"""Recipes from beginning to end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from wm_agents import cli, pipeline, recipes
from wm_agents.quickstart import shortened
from wm_agents.training import ImaginationTrainingConfig

SHORT = dataclasses.replace(
    shortened(recipes.recipe("pointmaze-umaze")), denoiser_training=None,
    imagination_training=ImaginationTrainingConfig(steps=20, blocks=2, evaluate_every=10),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:latents have collapsed")  # after 30 steps
def test_the_same_arguments_write_the_same_file_in_one_go_or_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def make(name: str) -> str:
        pipeline.reproduce(SHORT, tmp_path / name, command="a test", progress=False)
        return hashlib.sha256((tmp_path / name / pipeline.AGENT_FILE).read_bytes()).hexdigest()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    uninterrupted = make("at once")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train_temporal_distance", stop)
        with pytest.raises(KeyboardInterrupt):
            make("in two")
    assert not (tmp_path / "in two" / pipeline.AGENT_FILE).exists()
    assert make("in two") == uninterrupted
    logs = ["".join(p.read_text() for p in sorted((tmp_path / n).glob("progress*.csv"))) for n in ("at once", "in two")]
    curves = ("prediction", "gc_idm", "gc_idm_imagination", "temporal_distance")
    for curve in (f"validation/{name}" for name in curves):
        assert all(curve in log for log in logs), "curves of both halves are kept"
    assert (tmp_path / "in two" / "progress-1.csv").exists()


@pytest.mark.filterwarnings("ignore:latents have collapsed")
def test_the_command_evaluates_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(recipes, "recipe", lambda _: SHORT)
    cli.reproduce("pointmaze-umaze", tmp_path / "run", tasks=2)
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'run' / pipeline.AGENT_FILE}" in said
    for name in ("gc-idm", "cem-mpc"):
        content = json.loads((tmp_path / "run" / f"{name}.json").read_text())
        assert (content["agent"], content["tasks"], content["budget"]) == (name, 2, SHORT.budget)
        assert content["floors"].keys() == {"random", "noop"}
        assert name in said
