"""One lazy registry: a public name maps to ``"module:attribute"``, imported on first use."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator
from typing import Any


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: what was asked for, the nearest match, all that exist.

    Args:
        kind: What the name stands for, in words ("planner").
        name: The unknown name.
        known: Every name that exists.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(names) if names else "none"
    return f"Unknown {kind} {name!r}.{hint} Known: {listing}."


class Registry:
    """Names of one kind of thing, each bound to an object that is imported only when it is asked for.

    Args:
        kind: What is registered, in words; it appears in error messages.
        entries: ``name -> "package.module:attribute"``.
    """

    def __init__(self, kind: str, entries: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._entries = dict(entries or {})

    def register(self, name: str, target: str) -> None:
        """Add ``name``, bound to ``"package.module:attribute"``.

        Raises:
            ValueError: The name is taken by another target.
        """
        if self._entries.get(name, target) != target:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._entries[name]}.")
        self._entries[name] = target

    def get(self, name: str) -> Any:
        """Import and return what ``name`` is bound to.

        Raises:
            ValueError: The name is unknown; the message lists the known ones and the nearest match.
        """
        if name not in self._entries:
            raise ValueError(did_you_mean(self.kind, name, self._entries))
        module, _, attribute = self._entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
