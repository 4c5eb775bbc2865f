"""World-model agents and other ways to learn, trained and measured on the same tasks: one call, one report."""

from wm_agents.evaluation.comparison.run import compare

__all__ = ["compare"]
