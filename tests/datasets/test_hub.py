"""Upload and download: against a hub that is a folder, and what is said where there is none."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import MARKS, QUIET

from wm_agents import cli
from wm_agents.datasets import from_episodes, list_datasets, list_remote, load, pull, push

pytest_plugins = ["foreign_files"]
pytestmark = MARKS
NAME = "mine/arm/reach-v0"


class EntryNotFoundError(Exception):
    """As Hugging Face's client has it."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of Hugging Face: ``hub/<user>/<repository>/...``, through what Minari calls of its client."""
    root = tmp_path / "hub"

    class HfApi:
        def __init__(self, token: str | None = None) -> None: ...

        def create_repo(self, repo_id: str, **options: Any) -> None:
            (root / repo_id).mkdir(parents=True, exist_ok=True)

        def upload_folder(
            self, *, repo_id: str, folder_path: Path, path_in_repo: str, ignore_patterns: list[str], **options: Any
        ) -> None:
            ignored = shutil.ignore_patterns(*(pattern.split("/")[-2] for pattern in ignore_patterns))
            shutil.copytree(folder_path, root / repo_id / path_in_repo, ignore=ignored, dirs_exist_ok=True)

        def upload_file(self, *, path_or_fileobj: Any, path_in_repo: str, repo_id: str, **options: Any) -> None:
            target = root / repo_id / path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(path_or_fileobj) != target:
                shutil.copy(path_or_fileobj, target)

        def hf_hub_download(self, *, repo_id: str, filename: str, **options: Any) -> str:
            if not (root / repo_id / filename).is_file():
                raise EntryNotFoundError(filename)
            return str(root / repo_id / filename)

        def list_datasets(self, author: str, dataset_name: str | None = None) -> list[Any]:
            return [types.SimpleNamespace(id=f"{author}/{path.name}") for path in (root / author).iterdir()]

        def snapshot_download(self, *, repo_id: str, allow_patterns: str, local_dir: Path, **options: Any) -> None:
            for path in (root / repo_id).rglob("*"):
                inside = path.relative_to(root / repo_id)
                if path.is_file() and inside.as_posix().startswith(allow_patterns.removesuffix("*")):
                    (local_dir / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, local_dir / inside)

    module: Any = types.ModuleType("huggingface_hub")
    module.HfApi = HfApi
    module.errors = types.ModuleType("huggingface_hub.errors")
    module.errors.EntryNotFoundError = EntryNotFoundError
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", module.errors)
    monkeypatch.delitem(sys.modules, "minari.storage.remotes.huggingface", raising=False)
    yield root
    sys.modules.pop("minari.storage.remotes.huggingface", None)


def make(name: str = NAME) -> Any:
    images = [np.random.default_rng(i).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8) for i in range(2)]
    return from_episodes(images, [np.ones((3, 2)) * i for i in range(2)], name=name, image_size=16, **QUIET)


def test_pushed_and_pulled_again_it_is_the_same(hub: Path, datasets_path: Path) -> None:
    made = make()
    push(NAME, "hf://me")
    assert not list(hub.rglob("*wm_agents_cache*")), "the cache stays at home"
    assert json.loads((hub / "me/mine/namespace_metadata.json").read_text())["datasets"] == [NAME]
    assert list_remote("hf://me") == [NAME]
    with pytest.raises(ValueError, match="is here already"):
        pull(NAME, "hf://me")
    shutil.rmtree(datasets_path / "mine")
    assert list_datasets() == []
    assert pull(NAME, "hf://me") == datasets_path / NAME
    assert load(NAME).provenance["sha256"] == made.provenance["sha256"]
    pull(NAME, "hf://me", overwrite=True)
    assert len(load(NAME)) == 2
    with pytest.raises(ValueError, match=r"hf://me has no dataset 'mine/other-v0'; see: wm-agents datasets list"):
        pull("mine/other-v0", "hf://me")


def test_load_finds_what_is_on_the_default_hub(hub: Path, datasets_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    push(NAME, "hf://me")
    shutil.rmtree(datasets_path / "mine")
    monkeypatch.setenv("MINARI_REMOTE", "hf://me")
    assert len(load(NAME)) == 2


def test_the_command(hub: Path, datasets_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def command(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["wm-agents", "datasets", *words])
        with contextlib.suppress(SystemExit):
            cli.main()
        return capfd.readouterr()

    make()
    assert "say where to" in command("push", NAME)[1]
    assert "say which dataset" in command("pull")[1]
    assert f"{NAME} is on hf://me now" in command("push", NAME, "--hub", "hf://me")[0]
    assert command("list", "--hub", "hf://me")[0].split() == [NAME]
    assert "wrote" in command("pull", NAME, "--hub", "hf://me", "--overwrite")[0]
    assert "a hub is named hf://USER" in command("list", "--hub", "https://huggingface.co/me")[1]


@pytest.mark.parametrize("call", [lambda: push(NAME, "hf://me"), lambda: pull("their/arm-v0"), list_remote])
def test_without_the_extra_the_message_names_it(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    make()
    with pytest.raises(ImportError, match=r"hubs take huggingface_hub: pip install 'wm-agents\[hub\]'"):
        call()


def test_a_hub_that_cannot_be_reached_is_one_line(
    hub: Path, monkeypatch: pytest.MonkeyPatch, datasets_path: Path
) -> None:
    def offline(self: Any, *args: Any, **options: Any) -> None:
        raise OSError("no network\nand more")

    api = sys.modules["huggingface_hub"].HfApi
    for method in ("list_datasets", "snapshot_download", "create_repo"):
        monkeypatch.setattr(api, method, offline)
    make()
    for call in (list_remote, lambda: pull("their/arm-v0"), lambda: push(NAME, "hf://me")):
        with pytest.raises(
            ConnectionError, match=r"^hf://\S+ cannot be reached, or refuses \(no network\)\..*auth login$"
        ):
            call()
    assert not [path for path in datasets_path.rglob("*pull*")]
    with pytest.raises(ValueError, match=r"Unknown dataset 'their/arm-v0'.*could not be downloaded.*no network"):
        load("their/arm-v0")
