"""The comparison of the shipped agents: every task, protocol, agent and replanning interval on fixed held-out tasks."""

from wm_agents.evaluation.report.comparison import AGENTS, Source, Trial
from wm_agents.evaluation.report.protocols import PROTOCOLS, Protocol
from wm_agents.evaluation.report.run import run_report

__all__ = ["AGENTS", "PROTOCOLS", "Protocol", "Source", "Trial", "run_report"]
