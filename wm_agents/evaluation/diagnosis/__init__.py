"""Instruments that show a latent space: numbers, pictures, and a verdict in words."""

from wm_agents.evaluation.diagnosis.run import Diagnosis, diagnose
from wm_agents.evaluation.diagnosis.verdict import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
