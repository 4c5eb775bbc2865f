"""Shipped checkpoints: data files, one a task, with their SHA-256 sums; see :func:`wm_agents.load`."""
