"""Datasets on a hub: Minari's own, which is on Hugging Face, or anyone's there. Takes the extra ``hub``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wm_agents.datasets.cache import FOLDER
from wm_agents.datasets.collect import work_folder
from wm_agents.datasets.loading import dataset_root, read_metadata
from wm_agents.datasets.writing import ASSEMBLED, put_in_place

INSTALL = "pip install 'wm-agents[hub]'"
MINARI = "hf://farama-minari"
"""Minari's own hub; the environment variable ``MINARI_REMOTE`` names another one as the default."""


def push(name: str, to: str, *, token: str | None = None) -> None:
    """Upload a local dataset, without its cache; ``minari download`` finds it there too.

    Args:
        name: Minari id.
        to: ``hf://USER``, a user or organisation on Hugging Face.
        token: Of that user; None for the one that ``hf auth login`` has stored.

    Raises:
        ImportError: The extra is missing.
        ValueError: No such dataset, or ``to`` is no hub.
        ConnectionError: The hub cannot be reached, or refuses.
    """
    read_metadata(name, dataset_root(name))
    hub = _open(to, token)
    parts = name.split("/")
    with _explained(to):
        for depth in range(1, len(parts)):
            hub.upload_namespace("/".join(parts[:depth]))
        hub.upload_dataset(name)


def pull(name: str, source: str | None = None, *, overwrite: bool = False) -> Path:
    """Download a dataset and return its folder; nothing is at its name until all of it is there.

    Args:
        name: Minari id.
        source: ``hf://USER``; None for ``MINARI_REMOTE``, or Minari's own hub.
        overwrite: Replace a local dataset of that name.

    Raises:
        ImportError: The extra is missing.
        ValueError: A local dataset has that name, or the hub has none.
        ConnectionError: The hub cannot be reached, or refuses.
    """
    root = dataset_root(name)
    if root.exists() and not overwrite:
        raise ValueError(f"A dataset {name!r} is here already: pass overwrite=True, --overwrite, to replace it.")
    source = source or os.environ.get("MINARI_REMOTE", MINARI)
    hub = _open(source, None)
    with work_folder(name, root, "pull") as folder:
        with _explained(source):
            hub.download_dataset(name, folder / "files")
        found = folder / "files" / name
        if not (found / "data").is_dir():
            raise ValueError(f"{source} has no dataset {name!r}; see: wm-agents datasets list --hub {source}")
        found.rename(folder / ASSEMBLED)
        put_in_place(name, folder, root)
    return root


def list_remote(source: str | None = None) -> list[str]:
    """Return the ids of the datasets on a hub; arguments and errors are those of :func:`pull`."""
    source = source or os.environ.get("MINARI_REMOTE", MINARI)
    hub = _open(source, None)
    with _explained(source):
        return sorted(hub.list_datasets())


def _open(place: str, token: str | None) -> Any:
    """Return Minari's client of a hub, which leaves caches out when it uploads."""
    kind, separator, user = place.partition("://")
    if kind != "hf" or not separator or not user or "/" in user:
        raise ValueError(f"a hub is named hf://USER, for example {MINARI}, not {place!r}.")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError(f"hubs take huggingface_hub: {INSTALL}") from error
    from minari.storage.remotes import get_cloud_storage

    class WithoutCaches(HfApi):
        def upload_folder(self, **options: Any) -> Any:
            return super().upload_folder(**options, ignore_patterns=[f"{FOLDER}/*", f"*/{FOLDER}/*"])

    hub = get_cloud_storage(place, token)
    hub._api = WithoutCaches(token=token)  # type: ignore[attr-defined]
    return hub


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn whatever a client raises into one line."""
    try:
        yield
    except Exception as error:  # of the network, of the hub, of the client's many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"{place} cannot be reached, or refuses ({reason}). Is there a network? To upload, log in: hf auth login"
        ) from error
