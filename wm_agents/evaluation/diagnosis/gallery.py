"""Which pictures a diagnosis shows, in which order, and what is said below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from wm_agents.agents.imagining import as_vectors
from wm_agents.evaluation.diagnosis import pictures as draw
from wm_agents.evaluation.diagnosis.material import Material
from wm_agents.evaluation.diagnosis.page import Picture
from wm_agents.evaluation.diagnosis.ranking import agreement, replay
from wm_agents.models import Viewer
from wm_agents.models.heads import evaluating


def gallery(
    material: Material,
    numbers: dict[str, Any],
    rows: list[dict[str, np.ndarray]],
    viewer: Viewer,
    plans: Mapping[str, Any],
) -> list[Picture]:
    """All pictures that can be had, from top to bottom."""
    found = [_rollouts(material, viewer), *_own_plans(material, viewer, plans)]
    judged = [(row, agreement(row["cost"], row["true"])) for row in rows if "true" in row]
    ranks = [(row, value) for row, value in judged if value is not None]
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
    distance += " It grows up to the dotted line."
    found.append(Picture("Distance", draw.distance_figure(numbers["over_time"], numbers["over_truth"]), distance))
    read = {name: row for name, row in numbers["probes"].items() if row["mlp"] is not None}
    if read:
        found.append(
            Picture(
                "What can be read from a latent",
                draw.probe_figure(read),
                "R2 of a linear probe of the state (ridge regression) and of an MLP with two hidden layers; 1 is "
                "perfect. What the MLP reads much better is in the latent, but not linearly. Angles are their sine and "
                "cosine. One frame does not show velocities, so low bars are no fault there.",
                [
                    ("variable", "linear", "MLP"),
                    *((name, f"{row['linear']:.2f}", f"{row['mlp']:.2f}") for name, row in read.items()),
                ],
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
        blocks = len(actions) // material.block
        actions = np.asarray(actions)[: blocks * material.block]
        shown = np.unique(np.linspace(0, blocks, min(7, blocks + 1)).round().astype(int))
        rows = []
        for start in starts:
            if material.task is not None:
                state, size = material.test.states[start], material.model.spec.image_size
                path = [state, *replay(material.task, state, state, actions, material.block)]
                rows.append(("real", np.stack([material.task.render_state(path[n], size) for n in shown])))
            rows.append(("imagined", _imagined(material, viewer, int(start), actions)[shown]))
        titles = ["now", *(f"+{n * material.block} steps" for n in shown[1:])]
        caption = f"Your plan of {len(actions)} steps from two held-out frames, after what was recorded before them."
        found.append(Picture(f"Plan {name}", draw.image_rows(rows, titles), caption))
    return found


@torch.no_grad()
def _imagined(material: Material, viewer: Viewer, start: int, actions: np.ndarray) -> np.ndarray:
    """Pictures ``[T, H, W, 3]`` of a start and of what is imagined after each block of a plan."""
    model, now = material.model, material.latent([start])
    taken = as_vectors(actions[None], model).to(now)
    blocks = model.normalize(taken.reshape(1, 1, -1, model.spec.block_size))
    with evaluating(model):
        path = torch.cat([now, model.imagine(material.state(start), blocks)[0, 0]])
        return viewer(model.features(path)).cpu().numpy()
