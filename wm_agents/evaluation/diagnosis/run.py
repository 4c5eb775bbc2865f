"""Diagnose an agent: measure, judge, draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.agents import load
from wm_agents.agents.files import write_agent
from wm_agents.agents.imagining import as_vectors
from wm_agents.configs import whole_number
from wm_agents.evaluation.diagnosis.gallery import gallery
from wm_agents.evaluation.diagnosis.material import Material, gather, settable
from wm_agents.evaluation.diagnosis.page import Picture, html
from wm_agents.evaluation.diagnosis.ranking import rank_plans
from wm_agents.evaluation.diagnosis.readings import describe, over_time, over_truth, predict, probe
from wm_agents.evaluation.diagnosis.verdict import Finding, judge
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.offline import world_model_of
from wm_agents.models import Viewer
from wm_agents.registry import WORLD_MODELS
from wm_agents.training import train_viewer
from wm_agents.training.probe import is_velocity

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

PAGE, NUMBERS, AGENT = "diagnosis.html", "diagnosis.json", "agent.safetensors"
"""Files of a diagnosis."""


@dataclass(eq=False)
class Diagnosis:
    """What :func:`diagnose` found.

    Attributes:
        numbers: All measurements, as JSON types.
        findings: The verdict, the most important first.
        pictures: Those of the page; empty where none were asked for.
        agent: The agent that was diagnosed.
        viewer: The head that drew imagined frames; None where none were drawn.
    """

    numbers: dict[str, Any]
    findings: list[Finding]
    pictures: list[Picture] = field(default_factory=list)
    agent: Any = None
    viewer: Viewer | None = None

    @property
    def score(self) -> float | None:
        """What ranks checkpoints of one task without a rollout; None where plans cannot be replayed."""
        score: float | None = self.numbers["summary"]["score"]
        return score

    @property
    def verdict(self) -> list[str]:
        """The findings as sentences, and what could not be told."""
        return [f"{finding.topic}: {finding.text}" for finding in self.findings] + self.numbers["left_out"]

    def to_dict(self) -> dict[str, Any]:
        """All numbers and the verdict, as JSON types."""
        said = [{"kind": found.kind, "topic": found.topic, "text": found.text} for found in self.findings]
        return {**self.numbers, "verdict": said}

    def save(self, folder: str | Path) -> None:
        """Write ``diagnosis.json`` and, where there are pictures, ``diagnosis.html`` and the agent with its viewer.

        ``wm_agents.load(folder / "agent.safetensors").imagine(...)`` draws further plans.
        """
        folder = Path(folder)
        write_json(folder / NUMBERS, self.to_dict())
        if self.pictures:
            write_text(folder / PAGE, html(self.numbers, self.findings, self.pictures))
        if self.viewer is not None:
            checkpoint = self.agent.checkpoint()
            checkpoint.heads["viewer"] = self.viewer
            write_agent(checkpoint, folder / AGENT)


def diagnose(
    agent: Any,
    dataset: TrajectoryDataset,
    *,
    plans: Mapping[str, Any] | None = None,
    validation_fraction: float = 0.1,
    pairs: int = 30,
    candidates: int = 64,
    pictures: bool = True,
    seed: int = 0,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> Diagnosis:
    """Show a latent space: what can be read from it, what it imagines, and whether it ranks plans as the truth does.

    No agent acts in an environment. If the dataset's environment can be set to recorded states, random plans are
    replayed in it; what cannot be had is left out, with a sentence that says so.

    Args:
        agent: Any agent of this library, or the name or file of one, for :func:`wm_agents.load`.
        dataset: Episodes of the environment that it was trained for.
        plans: Your own plans by name, actions ``[L, A]`` in the environment's units, to see what is imagined of them.
        validation_fraction: Fraction of the episodes that training has held out, on which all is measured; the same as
            in training finds the same ones. For data that no training has seen, take 0.5.
        pairs: Starts and goals for which plans are ranked.
        candidates: Plans for each.
        pictures: Draw the pictures; for those of imagined frames, an agent without a viewer gets one, in a minute.
        seed: Seed of everything that is drawn.
        device: "auto", "cpu", "cuda", for an agent that is given by its name.
        progress: Show bars.

    Raises:
        ValueError: The dataset does not fit the agent or is too small, or a plan does not fit the agent's actions.
    """
    pairs, candidates = whole_number("pairs", pairs, 3), whole_number("candidates", candidates, 4)
    seed = whole_number("seed", seed, 0)
    if isinstance(agent, str | Path):
        agent = load(agent, device=device)
    check_plans(agent, {} if plans is None else plans)
    material = gather(agent, dataset, validation_fraction, seed, progress)
    with settable(material):
        ranking, rows = rank_plans(material, pairs, candidates)
        numbers = _measure(material, ranking)
        found = Diagnosis(numbers, judge(numbers), agent=agent)
        if pictures:
            found.viewer = (
                agent.heads.get("viewer") or train_viewer(agent.world_model, material.fit, progress=progress)[0]
            )
            found.pictures = gallery(material, numbers, rows, found.viewer, plans or {})
    return found


def check_plans(agent: Any, plans: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless every plan is of the agent's actions and at least a block long."""
    spec = world_model_of(agent).spec
    if not isinstance(plans, Mapping):
        raise ValueError(f"plans are actions by name, {{'push': actions}}, not {type(plans).__name__}.")
    for name, actions in plans.items():
        steps = len(np.atleast_1d(actions))
        if steps < spec.action_block:
            raise ValueError(f"the plan {name} has {steps} steps, fewer than the {spec.action_block} of a block.")
        try:
            as_vectors(np.asarray(actions)[None], agent.world_model)
        except ValueError as error:
            raise ValueError(f"the plan {name} does not fit the agent: {error}") from None


def _measure(material: Material, ranking: dict[str, Any]) -> dict[str, Any]:
    """All numbers of the diagnosis."""
    if not material.has_states:
        material.left_out.append("The data have no states: what the latents show of them could not be told.")
    prediction, probes, latent = predict(material), probe(material), describe(material)
    skills = [row["skill"] for row in prediction if row["steps"] <= ranking["steps"]]
    known = [
        max(row["linear"], row["mlp"])
        for name, row in probes.items()
        if row["linear"] is not None and row["mlp"] is not None and not is_velocity(name)
    ]
    return {
        "agent": material.agent.name,
        "env_id": material.agent.env_id,
        "dataset": material.test.name,
        "episodes": len(material.test),
        "seed": material.seed,
        "kind": WORLD_MODELS.name_of(type(material.model)),
        "action_block": material.block,
        "summary": {
            "score": ranking["plan_real"],
            "plan_real_frames": ranking["plan_real_frames"],
            "recorded_rank": ranking["recorded_rank"],
            "skill": skills[-1],
            "worst_probe": min(known) if known else None,
            "effective_dimension": latent["effective_dimension"],
        },
        "ranking": ranking,
        "latent": latent,
        "probes": probes,
        "over_time": over_time(material),
        "over_truth": over_truth(material),
        "prediction": prediction,
        "left_out": material.left_out,
    }


def read_plan(path: Path) -> np.ndarray:
    """Actions ``[L, A]`` of a text file with one action a line, numbers between commas.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds something else.
    """
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is no plan, which has one action a line, numbers between commas: {error}") from error


def check_folder(folder: str | Path) -> None:
    """Raise ``OSError`` where the files of a diagnosis could not be written to ``folder`` later."""
    check_output(folder, folder=True)
    for name in (PAGE, NUMBERS, AGENT):
        check_output(Path(folder) / name)
