"""Benchmarks of the planners on one machine: success, cost of a plan, scaling, and how much of the machine they use."""

from wm_agents.evaluation.bench.planners import bench_planners
from wm_agents.evaluation.bench.rates import batch_ratio, plan_rate
from wm_agents.evaluation.bench.tables import bench_figure, print_bench

__all__ = ["batch_ratio", "bench_figure", "bench_planners", "plan_rate", "print_bench"]
