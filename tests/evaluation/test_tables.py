"""Tables: every number in full, whatever the width and whether a terminal or a pipe reads it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from wm_agents.evaluation import print_report

pytest_plugins = ["chaser"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("terminal", [False, True])
def test_numbers_are_never_cut(result, width, terminal):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_report([result], console)
    text = console.file.getvalue()
    assert "…" not in text
    low, high = result.outcomes.interval()
    assert f"{100 * result.success_rate:.1f}% [{100 * low:.0f}, {100 * high:.0f}]" in text
    assert result.agent in text
    if width == 200 or not terminal:
        assert "━" in text


def test_names_are_no_markup(result):
    import dataclasses

    console = Console(file=io.StringIO(), width=200)
    print_report([dataclasses.replace(result, agent="mine [/bold]")], console)
    assert "mine [/bold]" in console.file.getvalue()
