"""The memory of an agent between two calls of ``predict``: SB3's ``state``, with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Fields = dict[str, np.ndarray]
"""Named arrays ``[N, ...]``, one row per environment."""


class Memory(tuple):
    """A tuple of arrays ``[N, ...]``, as Stable-Baselines3 expects of ``state``, which also have names.

    ``memory["elapsed"]`` is the array of that name, ``memory[0]`` the first one, ``memory.names`` all names.

    Args:
        fields: Name -> array.
    """

    names: tuple[str, ...]

    def __new__(cls, fields: Mapping[str, np.ndarray]) -> Memory:
        memory = super().__new__(cls, fields.values())
        memory.names = tuple(fields)
        return memory

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.fields(),)

    def __repr__(self) -> str:
        return f"Memory({', '.join(f'{name} {value.shape}' for name, value in self.fields().items())})"

    def fields(self) -> Fields:
        """The arrays by name."""
        return dict(zip(self.names, self, strict=True))


def prefixed(prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``prefix.`` before every name."""
    return {f"{prefix}.{name}": value for name, value in fields.items()}


def part(prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that :func:`prefixed` put in, without the prefix."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in fields.items() if name.startswith(start)}
