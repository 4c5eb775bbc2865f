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
from wm_agents.agents.imagining import imagined_pictures
from wm_agents.configs import whole_number
from wm_agents.evaluation.diagnosis import pictures as draw
from wm_agents.evaluation.diagnosis.material import Material, gather, settable
from wm_agents.evaluation.diagnosis.page import Picture, html
from wm_agents.evaluation.diagnosis.ranking import rank_plans, replay
from wm_agents.evaluation.diagnosis.readings import describe, is_velocity, over_time, over_truth, predict, probe
from wm_agents.evaluation.diagnosis.statistics import rank_correlation
from wm_agents.evaluation.diagnosis.verdict import Finding, judge
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.models import Viewer
from wm_agents.registry import WORLD_MODELS
from wm_agents.training import train_viewer

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
    check_plans(agent, plans or {})
    material = gather(agent, dataset, validation_fraction, seed, progress)
    with settable(material):
        ranking, rows = rank_plans(material, pairs, candidates)
        numbers = _measure(material, ranking)
        found = Diagnosis(numbers, judge(numbers), agent=agent)
        if pictures:
            found.viewer = (
                agent.heads.get("viewer") or train_viewer(agent.world_model, material.fit, progress=progress)[0]
            )
            found.pictures = _pictures(material, numbers, rows, found.viewer, plans or {})
    return found


def check_plans(agent: Any, plans: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless every plan has the agent's actions and is at least a block long."""
    spec = agent.world_model.spec
    for name, actions in plans.items():
        shape = np.shape(actions)
        width = () if len(spec.choices) == 1 else (len(spec.choices) or spec.action_size,)
        if len(shape) != 1 + len(width) or shape[1:] != width or shape[0] < spec.action_block:
            raise ValueError(
                f"the plan {name} has the shape {list(shape)}: one row a step is needed, "
                f"[L, {spec.action_size}], and at least {spec.action_block} steps, a block of the world model."
            )


def _measure(material: Material, ranking: dict[str, Any]) -> dict[str, Any]:
    """All numbers of the diagnosis."""
    if not material.has_states:
        material.left_out.append("The data have no states: what the latents show of them could not be told.")
    prediction, probes, latent = predict(material), probe(material), describe(material)
    skills = [row["skill"] for row in prediction if row["steps"] <= ranking["steps"]]
    known = [
        max(row["linear"], row["nonlinear"])
        for name, row in probes.items()
        if row["linear"] is not None and row["nonlinear"] is not None and not is_velocity(name)
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
            "plan_real": ranking["plan_real"],
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


def _pictures(
    material: Material,
    numbers: dict[str, Any],
    rows: list[dict[str, np.ndarray]],
    viewer: Viewer,
    plans: Mapping[str, Any],
) -> list[Picture]:
    """All pictures that can be had, from top to bottom."""
    found = [_rollouts(material, viewer), *_own_plans(material, viewer, plans)]
    ranks = [(row, value) for row in rows if "true" in row and (value := rank_correlation(row["cost"], row["true"]))]
    if len(ranks) >= 3:
        found.append(
            Picture(
                "Does the cost rank plans?",
                draw.ranking_figure(*zip(*ranks, strict=True)),
                "Each dot is a plan that was replayed: its true cost to the right, the cost that the planner sees "
                "upwards. Three pairs of start and goal, with their rank correlations. The orange ring is the plan "
                "that the planner would choose; it should lie at the left.",
            )
        )
    found.append(
        Picture(
            "Prediction",
            draw.prediction_figure(numbers["prediction"], numbers["ranking"]["steps"]),
            'Squared error of imagined latents by the horizon. Where the blue line is above the orange one, "nothing '
            'moves" is the better prediction.',
        )
    )
    distance = (
        "Mean latent distance of frames by the steps between them, as a share of that of unrelated frames. Where "
    )
    distance += "the line is flat, the cost of a plan says nothing about how far it is from the goal."
    if numbers["over_truth"] is not None:
        distance += f" Right: against the true distance ({numbers['over_truth']['unit']})."
    found.append(Picture("Distance", draw.distance_figure(numbers["over_time"], numbers["over_truth"]), distance))
    if any(row["linear"] is not None for row in numbers["probes"].values()):
        found.append(
            Picture(
                "What can be read from a latent",
                draw.probe_figure(numbers["probes"]),
                "R2 of ridge regressions on the latent, linear and on random features; 1 is perfect. Angles are their "
                "sine and cosine. One frame does not show velocities, so low bars are no fault there.",
            )
        )
    found += [
        Picture(
            "Map",
            draw.map_figure(material),
            "Latents in their two largest principal components. Colours that change smoothly mean that near latents "
            "are near states; the picture cannot show what further components hold.",
        ),
        Picture(
            "Nearest neighbours",
            draw.image_rows(draw.neighbour_rows(material), ["frame", *(f"{n}." for n in range(1, 6))]),
            "Left: a held-out frame. Then the frames with the nearest latents, each of another episode. What differs "
            "between them is what latent distance does not see.",
        ),
        Picture(
            "Eigenvalues",
            draw.eigenvalue_figure(numbers["latent"]),
            "How the variance of the latents spreads over their principal components. Very few bars mean collapse, or "
            "a task with as few degrees of freedom.",
        ),
    ]
    return found


def _rollouts(material: Material, viewer: Viewer) -> Picture:
    """Recorded plans, real above imagined."""
    starts, blocks = material.starts(3, 10, 10)
    shown = [ahead for ahead in (0, 1, 2, 3, 5, 7, 10) if ahead <= blocks]
    device = material.model.action_mean.device
    rows = []
    for start in starts:
        rows.append(("real", material.test.frames_at(start + material.block * np.array(shown))))
        z = [material.imagined(np.array([start]), n) if n else material.latents[[start]] for n in shown]
        with torch.no_grad():
            rows.append(("imagined", viewer(torch.from_numpy(np.concatenate(z)).to(device)).cpu().numpy()))
    titles = ["now", *(f"+{ahead * material.block} steps" for ahead in shown[1:])]
    caption = (
        "Three recorded plans: what happened, and below it what the world model imagines from the first frame and the "
        "actions, drawn by a decoder that is trained for viewing only. What is wrong in the first column is not in the "
        "latent, or the decoder cannot draw it; what goes wrong from left to right is the predictor's fault."
    )
    return Picture("Imagined rollouts", draw.image_rows(rows, titles), caption)


def _own_plans(material: Material, viewer: Viewer, plans: Mapping[str, Any]) -> list[Picture]:
    """What is imagined of the user's plans, below what happens where the task can be set to states."""
    found = []
    starts = material.starts(2, 1, 11)[0]
    for name, actions in plans.items():
        actions = np.asarray(actions)[: len(actions) // material.block * material.block]
        blocks = len(actions) // material.block
        shown = np.unique(np.linspace(0, blocks, min(7, blocks + 1)).round().astype(int))
        rows = []
        for start in starts:
            pixels = material.test.frames_at([start])
            if material.task is not None:
                state, size = material.test.states[start], material.model.spec.image_size
                path = [state, *replay(material.task, state, state, actions, material.block)]
                rows.append(("real", np.stack([material.task.render_state(path[n], size) for n in shown])))
            imagined = imagined_pictures(material.model, viewer, pixels, np.asarray(actions)[None])[0]
            rows.append(("imagined", imagined[shown]))
        titles = ["now", *(f"+{n * material.block} steps" for n in shown[1:])]
        caption = f"Your plan of {len(actions)} steps from two held-out frames."
        found.append(Picture(f"Plan {name}", draw.image_rows(rows, titles), caption))
    return found


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
