"""Evaluation: tasks as manifests, agents run on them, statistics, tables, videos and figures."""

from wm_agents.evaluation.calibration import Calibration, calibrate
from wm_agents.evaluation.comparison import compare
from wm_agents.evaluation.diagnosis import Diagnosis, Finding, diagnose
from wm_agents.evaluation.environments import check_env_id
from wm_agents.evaluation.evaluator import evaluate, floors
from wm_agents.evaluation.figures import (
    film_strip,
    graph_figure,
    maze_figure,
    proposed_subgoals,
    reliability_figure,
    save_figure,
    training_figure,
)
from wm_agents.evaluation.grid import Cell, Grid, Runner, evaluation_cell
from wm_agents.evaluation.offline import OfflineScores, offline_scores
from wm_agents.evaluation.results import EvaluationResult, Outcomes, Timings
from wm_agents.evaluation.sb3_files import is_sb3_file, load_sb3
from wm_agents.evaluation.statistics import (
    auroc,
    brier_score,
    calibration_error,
    interquartile_mean,
    mcnemar,
    runs_interval,
    stratified_interval,
    summarise,
    wilson_interval,
)
from wm_agents.evaluation.tables import print_report, print_table, results_table
from wm_agents.evaluation.task_env import TaskEnv
from wm_agents.evaluation.tasks import Manifest, make_manifest
from wm_agents.evaluation.video import Recording, check_video_path, write_video, write_video_grid

__all__ = [
    "Calibration",
    "Cell",
    "Diagnosis",
    "EvaluationResult",
    "Finding",
    "Grid",
    "Manifest",
    "OfflineScores",
    "Outcomes",
    "Recording",
    "Runner",
    "TaskEnv",
    "Timings",
    "auroc",
    "brier_score",
    "calibrate",
    "calibration_error",
    "check_env_id",
    "check_video_path",
    "compare",
    "diagnose",
    "evaluate",
    "evaluation_cell",
    "film_strip",
    "floors",
    "graph_figure",
    "interquartile_mean",
    "is_sb3_file",
    "load_sb3",
    "make_manifest",
    "maze_figure",
    "mcnemar",
    "offline_scores",
    "print_report",
    "print_table",
    "proposed_subgoals",
    "reliability_figure",
    "results_table",
    "runs_interval",
    "save_figure",
    "stratified_interval",
    "summarise",
    "training_figure",
    "wilson_interval",
    "write_video",
    "write_video_grid",
]
