"""Recipes from beginning to end."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from wm_agents import pipeline
from wm_agents.quickstart import shortened
from wm_agents.recipes import recipe

SHORT = dataclasses.replace(shortened(recipe("pointmaze-umaze")), denoiser_training=None)


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
