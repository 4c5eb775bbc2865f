"""Subcommands that look at an agent on recorded episodes: score, diagnose."""

from __future__ import annotations

from pathlib import Path

import tyro

from wm_agents.cli.common import app, console, parse_options


@app.command
def score(
    agent: tyro.conf.Positional[str],
    dataset: tyro.conf.Positional[str],
    samples: int = 300,
    validation_fraction: float = 0.1,
    seed: int = 0,
    json: Path | None = None,
    options: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Score an agent on recorded episodes if there is no environment: predictions, actions, and a verdict.

    Args:
        agent: A shipped agent ("pointmaze-umaze/gc-idm"), or FILE or FILE:AGENT for your own checkpoint.
        dataset: Minari id.
        samples: Pairs of frames for each number of steps.
        validation_fraction: Fraction of the episodes that training has held out, which are scored; use 0 for data that
            was not used for training.
        seed: Seed of the pairs.
        json: File for all numbers.
        options: The agent's own options as name=value.
        device: auto, cpu or cuda.
    """
    from wm_agents import datasets, evaluation, load
    from wm_agents.evaluation.files import check_output

    if json is not None:
        check_output(json)
    name, _, kind = agent.partition(":")
    player = load(name, agent=kind or None, device=device, **parse_options(options))
    scores = evaluation.offline_scores(
        player, datasets.load(dataset), samples=samples, validation_fraction=validation_fraction, seed=seed
    )
    if json is not None:
        scores.save(json)
    evaluation.print_table(scores.table(), console)
    for sentence in scores.verdict:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


@app.command
def diagnose(
    agent: tyro.conf.Positional[str],
    dataset: tyro.conf.Positional[str],
    out: Path = Path("runs/diagnosis"),
    plans: tuple[Path, ...] = (),
    validation_fraction: float = 0.1,
    pairs: int = 30,
    candidates: int = 64,
    seed: int = 0,
    options: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Show a latent space in one HTML page: what it holds, what it imagines, whether it ranks plans, what to try.

    Args:
        agent: A shipped agent ("pointmaze-umaze/cem"), or FILE or FILE:AGENT for your own checkpoint.
        dataset: Minari id of episodes of the agent's environment.
        out: Directory for diagnosis.html, diagnosis.json, and agent.safetensors, the agent with the decoder that drew
            the pictures.
        plans: Files with plans of yours, to see what is imagined of them: one action a line, numbers between commas.
        validation_fraction: Fraction of the episodes that training has held out, on which all is measured; use 0.5 for
            data that was not used for training.
        pairs: Starts and goals for which plans are ranked.
        candidates: Plans for each of them.
        seed: Seed of everything that is drawn.
        options: The agent's own options as name=value.
        device: auto, cpu or cuda.
    """
    from wm_agents import datasets, evaluation, load
    from wm_agents.evaluation.diagnosis.run import check_folder, read_plan

    check_folder(out)
    own = {path.stem: read_plan(path) for path in plans}
    if len(own) < len(plans):
        raise ValueError("two files of --plans have the same name, which is the plan's on the page: rename one.")
    name, _, kind = agent.partition(":")
    player = load(name, agent=kind or None, device=device, **parse_options(options))
    found = evaluation.diagnose(
        player,
        datasets.load(dataset),
        plans=own,
        validation_fraction=validation_fraction,
        pairs=pairs,
        candidates=candidates,
        seed=seed,
    )
    found.save(out)
    for sentence in found.verdict:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {out}/diagnosis.html", markup=False, highlight=False, soft_wrap=True)
