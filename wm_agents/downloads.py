"""Files from Hugging Face, at a commit; nothing in them is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

INSTALL = "pip install 'wm-agents[hub]'"


def download(name: str, files: Sequence[str], revision: str | None, known: Mapping[str, str]) -> Path:
    """Return the folder of a repository's files, in Hugging Face's cache.

    Args:
        name: Repository, "owner/name".
        files: Names of the files to get.
        revision: Commit; None takes that of ``known``.
        known: Commits by repository.

    Raises:
        ValueError: No commit is given or known.
        ImportError: huggingface_hub is not installed.
        ConnectionError: The files cannot be downloaded, and are not in the cache.
    """
    revision = revision or known.get(name)
    if revision is None:
        raise ValueError(
            f"there is no folder {name}. To read a repository on Hugging Face, give revision=, its commit, which is "
            f"known for {', '.join(known)} only."
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError(f"there is no folder {name}, and Hugging Face takes huggingface_hub: {INSTALL}") from error
    try:
        for file in files:
            folder = Path(hf_hub_download(name, file, revision=revision)).parent
    except Exception as error:  # of the network, of the hub, of the client's many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"{name} cannot be downloaded ({reason}). Is there a network? Otherwise give a folder that has "
            f"{' and '.join(files)}."
        ) from error
    return folder
