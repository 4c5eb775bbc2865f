"""A diagnosis in words: what is wrong, and what to try. All thresholds are here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wm_agents.evaluation.diagnosis.ranking import FILMED, OF_DISTANCE
from wm_agents.training.probe import is_velocity
from wm_agents.training.world_model import COLLAPSE_STD

READABLE, BLURRED = 0.9, 0.5
"""R2 from which a variable counts as readable, and below which as missing. Push-T world models whose probes reach 0.9
solve between 49% and 93% of their tasks (arXiv 2608.18746): readable is needed, but not enough."""
FLATTENED = 1.5
"""Effective dimension below which latents are almost a line. This is no collapse: of the ten UMaze world models of
``examples/benchmarks/rank_checkpoints.py``, the one with dimension 1.01 solves the most tasks."""
FLAT = 1.05
"""Ratio of the largest to the smallest cost of random plans below which planners cannot tell them apart. Healthy world
models have 3 to 30, a collapsed one 1.005 (arXiv 2608.18746)."""
GOOD_RANKS, POOR_RANKS = 0.4, 0.15
"""Plan-Real correlation from which plans are ranked well, and below which hardly. LeWorldModel, which solves 96% of
Push-T, has 0.28 to 0.40 there, and a collapsed world model 0.03 (arXiv 2608.18746)."""
GAP = 0.1
"""How much better real frames must rank plans than imagined ones for the predictor to be the limit: our choice, about
twice the standard error of 30 pairs."""

LEARNT_BY_HEART = 0.2
"""How much better than held-out episodes a linear probe may read those that it was fitted to. Beyond this, a low R2 may
be the fault of too few episodes and not of the latents: our choice."""
BENT = 0.2
"""How much better an MLP must read a variable than a linear probe for the latents to hold it nonlinearly: our choice.
With the shipped world models of UMaze, PushT and Cube-Single, it is better by 0.1 at most."""

Kind = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """One sentence or two.

    Attributes:
        kind: "good", "warning" or "bad".
        topic: What it is about, in a word or two.
        text: What was found, and what to try.
    """

    kind: Kind
    topic: str
    text: str


def judge(numbers: dict[str, Any]) -> list[Finding]:
    """Return the findings, the most important first.

    Args:
        numbers: What :meth:`wm_agents.evaluation.Diagnosis.to_dict` holds.
    """
    collapsed = _collapse(numbers["latent"])
    if collapsed:
        return [collapsed]
    latent = _dimensions(numbers["latent"])
    parts = (
        latent,
        _ranks(numbers["ranking"]),
        *_limit(numbers),
        _distance(numbers),
        _prediction(numbers),
        *_probes(numbers),
    )
    findings = [finding for finding in parts if finding]
    return sorted(findings, key=lambda finding: ("bad", "warning", "good").index(finding.kind))


def _collapse(latent: dict[str, Any]) -> Finding | None:
    if latent["std"] >= COLLAPSE_STD:
        return None
    return Finding(
        "bad",
        "Collapsed",
        f"The latents have collapsed: their standard deviation is {latent['std']:.3f}, below {COLLAPSE_STD}. All "
        "images look alike to this world model, and the other numbers mean little. Raise the weight of the regulariser "
        "(sigreg or vicreg), or add a term that prevents collapse, such as inverse_dynamics.",
    )


def _dimensions(latent: dict[str, Any]) -> Finding | None:
    if latent["effective_dimension"] >= FLATTENED or latent["size"] == 1:
        return None
    text = (
        f"The latents fill only {latent['effective_dimension']:.1f} of {latent['size']} dimensions. That is right for "
        "a task with one degree of freedom, or with one corridor as UMaze. For others, raise the weight of the "
        "regulariser."
    )
    return Finding("warning", "Dimensions", text)


def _ranks(ranking: dict[str, Any]) -> Finding | None:
    if ranking["cost_ratio"] < FLAT:
        return Finding(
            "bad",
            "Flat cost",
            f"The planning cost hardly depends on the plan: the worst of {ranking['candidates']} costs only "
            f"{ranking['cost_ratio']:.3f} times as much as the best. The predictor ignores actions, or the latents "
            "hardly change: check that each action is stored with the frame at which it was taken, and train longer.",
        )
    found = ranking["plan_real"]
    if found is None:
        return None
    kind: Kind = "good" if found >= GOOD_RANKS else "warning" if found >= POOR_RANKS else "bad"
    word = {"good": "well", "warning": "only roughly", "bad": "hardly better than chance"}[kind]
    better = ranking["better_than_chosen"]
    return Finding(
        kind,
        "Planning cost",
        f"The planning cost ranks plans of {ranking['steps']} steps {word}: its rank correlation with the true cost is "
        f"{found:.2f}. Of {ranking['candidates']} plans, {better:.0%} are truly better than the one it prefers.",
    )


def _limit(numbers: dict[str, Any]) -> list[Finding]:
    """Whether the predictor or the latent is what keeps the cost from ranking plans."""
    ranking = numbers["ranking"]
    real, imagined = ranking["plan_real_frames"], ranking["plan_real_filmed"]
    if real is None or imagined is None:
        return []
    told = (
        f"(rank correlation {real:.2f} with real frames, {imagined:.2f} with imagined ones, of {FILMED} plans a pair)"
    )
    if real - imagined > GAP:
        text = (
            "The predictor is the limit, not the latent: the same plans are ranked better when their real frames are "
            f"encoded {told}. Train it further on longer rollouts (wm-agents fit predictor), make it wider, or give it "
            "more data."
        )
        return [Finding("warning" if imagined >= POOR_RANKS else "bad", "Predictor", text)]
    if real < GOOD_RANKS:
        text = (
            f"The latent is the limit, not the predictor: even with real frames, latent distance ranks plans poorly "
            f"{told}. A better predictor will not help. Try a learned distance (objective=temporal-distance), nearer "
            "subgoals, or other loss terms."
        )
        return [Finding("warning" if real >= POOR_RANKS else "bad", "Latent", text)]
    word = "better than" if imagined - real > GAP else "about as well as"
    return [Finding("good", "Predictor", f"Imagined frames rank plans {word} real ones {told}.")]


def _distance(numbers: dict[str, Any]) -> Finding:
    time, plan = numbers["over_time"], numbers["ranking"]["steps"]
    longest, grows, full = time["steps"][-1], time["grows_until"], time["saturated_at"]
    limit, true = min(grows, full or longest), _true_range(numbers["over_truth"])
    if limit < longest:
        reason = (
            f"frames {full} steps apart are as far apart as unrelated ones"
            if full is not None and full <= grows
            else "it stops growing there, because paths turn back or latents look alike"
        )
        text = f"Latent distance misleads beyond {limit} steps: {reason}."
    else:
        text = f"Latent distance grows up to {longest} steps apart, the longest measured."
        if not true:
            return Finding("good", "Distance", text)
    text += true
    if numbers["ranking"]["objective"] not in OF_DISTANCE:
        return Finding(
            "good", "Distance", f"{text} This agent does not plan by it, but by {numbers['ranking']['objective']}."
        )
    text += " Goals farther away need subgoals (hierarchical) or a learned distance (objective=temporal-distance)."
    return Finding("warning" if limit >= min(plan, longest) else "bad", "Distance", text)


def _true_range(truth: dict[str, Any] | None) -> str:
    """Up to which true distance latent distance grows, if that is less than half of the farthest."""
    if truth is None or truth["grows_until"] >= truth["farthest"] / 2:
        return ""
    ends, farthest = truth["grows_until"], truth["farthest"]
    return f" Against the true distance ({truth['unit']}), it grows only up to {ends:.3g} of {farthest:.3g}."


def _prediction(numbers: dict[str, Any]) -> Finding:
    rows, plan = numbers["prediction"], numbers["ranking"]["steps"]
    useful = 0
    for row in rows:
        if row["skill"] <= 0:
            break
        useful = row["steps"]
    at_plan = [row["skill"] for row in rows if row["steps"] <= plan][-1]
    if useful >= rows[-1]["steps"]:
        text = f'Predictions beat "nothing moves" as far as was measured, {useful} steps; their skill over a plan of '
        return Finding("good", "Prediction", text + f"{min(plan, useful)} steps is {at_plan:.2f}.")
    if useful:
        text = (
            f'Predictions beat "nothing moves" up to {useful} steps ahead, and not beyond. Plan no farther, or train '
        )
        kind: Kind = "warning" if useful >= plan else "bad"
        return Finding(kind, "Prediction", text + "the predictor on longer rollouts (train_predictor).")
    text = (
        'Predictions are no better than "nothing moves", even one block ahead. Train longer or on more data, make the '
        "action block longer where little moves in one, and check that actions belong to their frames."
    )
    return Finding("bad", "Prediction", text)


def _probes(numbers: dict[str, Any]) -> list[Finding]:
    found = _variables(numbers["probes"])
    if not found:
        return []
    best = {name: max(row["linear"], row["mlp"]) for name, row in found.items()}
    clear = [name for name, r2 in best.items() if r2 >= READABLE]
    short = [name for name in best if name not in clear and found[name]["fit"] - best[name] > LEARNT_BY_HEART]
    low = {name: f"{name} (R2 {r2:.2f})" for name, r2 in best.items() if name not in (*clear, *short)}
    missing = [text for name, text in low.items() if best[name] < BLURRED]
    blurred = [text for name, text in low.items() if best[name] >= BLURRED]
    there = f"{', '.join(clear)} can be read from the latents"
    findings = []
    if low:
        parts = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(blurred)} blurred"] * bool(blurred)
        text = (
            f"{'; '.join([there] * bool(clear) + parts)}. Latent distance cannot tell apart what latents do not show. "
            "Try longer training, more data in which these vary, larger latents or images, or the loss term "
            "reconstruction or inverse_dynamics."
        )
        findings.append(Finding("bad" if missing else "warning", "State", text))
    elif clear:
        rest = ": the whole state that one frame can show." if not short else "."
        findings.append(Finding("good", "State", there + rest))
    if short:
        text = (
            f"There are too few episodes to tell whether {', '.join(short)} can be read: the probes learn those that "
            "they are fitted to by heart. Record more episodes; short ones do."
        )
        findings.append(Finding("warning", "State", text))
    return findings + _bent({name: row for name, row in found.items() if name not in short}, numbers["ranking"])


def _variables(probes: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Known R2 by variable, without velocities; of an angle's sine and cosine, the lower one."""
    found: dict[str, dict[str, float]] = {}
    for name, row in probes.items():
        if is_velocity(name) or row["mlp"] is None:
            continue
        variable = name.removesuffix("_sin").removesuffix("_cos")
        if not {f"{variable}_sin", f"{variable}_cos"} <= probes.keys():
            variable = name
        other = found.get(variable, row)
        found[variable] = {probe: min(r2, other[probe]) for probe, r2 in row.items()}
    return found


def _bent(found: dict[str, dict[str, float]], ranking: dict[str, Any]) -> list[Finding]:
    """What an MLP reads, but not a linear probe."""
    bent = [
        f"{name} (R2 {row['linear']:.2f} linear, {row['mlp']:.2f} MLP)"
        for name, row in found.items()
        if row["mlp"] >= BLURRED and row["mlp"] - row["linear"] > BENT
    ]
    if not bent:
        return []
    text = f"The latents hold {', '.join(bent)}, but not linearly, so latent distance does not grow evenly with it."
    if ranking["objective"] not in OF_DISTANCE:
        return [Finding("good", "Nonlinear", f"{text} This agent does not plan by it, but by {ranking['objective']}.")]
    text += " A head can read it all the same: try a learned distance (objective=temporal-distance) or GC-IDM."
    return [Finding("warning", "Nonlinear", text)]
