"""Parquet tables as arrays. They take pyarrow, which the extra ``lerobot`` installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wm_agents.datasets.checks import refusal

INSTALL = "pip install 'wm-agents[lerobot]'"


def read_parquet(path: Path, columns: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return columns: numbers ``[rows]``, lists of one length ``[rows, size]``, anything else as objects ``[rows]``.

    Args:
        path: The file.
        columns: Which ones; None for all.

    Raises:
        ImportError: pyarrow is missing.
        ValueError: It is no parquet file, or a column is missing or ragged.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ImportError(f"{path}: parquet files take pyarrow: {INSTALL}") from error
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        for name in columns or []:
            if name not in names:
                raise refusal(str(path), f"there is no such column; it has {', '.join(names)}.", column=name)
        table = file.read(columns=columns)
    except (ArrowException, OSError) as error:
        raise refusal(str(path), f"it is no parquet file, cut short or damaged ({error}).") from error
    return {name: _array(path, name, table[name]) for name in table.column_names}


def _array(path: Path, name: str, column: Any) -> np.ndarray:
    values = column.to_numpy()
    if values.dtype != object or not len(values) or not isinstance(values[0], np.ndarray):
        return values
    sizes = {np.shape(value) for value in values}
    if len(sizes) > 1:
        raise refusal(str(path), f"its rows differ in length: {sorted(sizes)}.", column=name)
    return np.stack(values)
