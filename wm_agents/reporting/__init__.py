"""The comparison of the shipped agents: every task, protocol, agent and replanning interval on fixed held-out tasks."""

from wm_agents.reporting.grid import AGENTS, PROTOCOLS, Cell, Protocol, Source
from wm_agents.reporting.run import run_report

__all__ = ["AGENTS", "PROTOCOLS", "Cell", "Protocol", "Source", "run_report"]
