"""``python -m wm_agents.cli`` is the same command."""

from wm_agents.cli import main

main()
