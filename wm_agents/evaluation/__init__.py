"""Evaluation: tasks as manifests, agents run on them, statistics, tables, videos and figures."""

from wm_agents.evaluation.evaluator import evaluate, floors
from wm_agents.evaluation.figures import graph_figure, maze_figure, proposed_subgoals, save_figure, training_figure
from wm_agents.evaluation.results import EvaluationResult, Outcomes, Timings, print_report, results_table
from wm_agents.evaluation.statistics import mcnemar, summarise, wilson_interval
from wm_agents.evaluation.tasks import Manifest, check_env_id, make_manifest
from wm_agents.evaluation.video import Recording, check_video_path, write_video

__all__ = [
    "EvaluationResult",
    "Manifest",
    "Outcomes",
    "Recording",
    "Timings",
    "check_env_id",
    "check_video_path",
    "evaluate",
    "floors",
    "graph_figure",
    "make_manifest",
    "maze_figure",
    "mcnemar",
    "print_report",
    "proposed_subgoals",
    "results_table",
    "save_figure",
    "summarise",
    "training_figure",
    "wilson_interval",
    "write_video",
]
