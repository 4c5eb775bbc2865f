"""Planning in latent action spaces: what is executed and imagined, and the study of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latent_networks import KINDS, latents, network

from wm_agents.agents import MPC
from wm_agents.evaluation import make_manifest
from wm_agents.studies import learned_latents
from wm_agents.studies.learned_latents_report import markdown
from wm_agents.studies.spaces import Space

pytest_plugins = ["trained"]


def tiny_space(world_model, kind: str = "vae"):
    if kind == "real":
        return Space("blocks")
    spec = world_model.spec
    model = network(kind.split()[0], latent_size=spec.feature_size, action_block=spec.action_block, codes=6)
    model.measure(latents(200, 4))
    return Space("latent-decoded" if kind.endswith("decoded") else "latent", model)


def agent_of(world_model, space, planner, horizon, **options):
    heads = [] if space.head is None else [space.head]
    return MPC(world_model, heads=heads, actions=space.actions, planner=planner, horizon=horizon, **options)


SPACES = ["real", *KINDS, "vae decoded"]


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("planner", ["cem", "gradient"])
def test_each_environment_gets_the_plan_that_it_gets_alone(world_model, kind, planner):
    model = world_model(history=2)
    space = tiny_space(model, kind)
    options = {"cem": {"samples": 12, "elites": 3, "iterations": 3}, "gradient": {"steps": 4, "restarts": 2}}
    agent = agent_of(model, space, planner, 3, **options[planner])
    rng = np.random.default_rng(0)

    def play(rows, steps=5):
        """Images depend on row and step alone, so that a batch and its rows see the same."""
        state, actions = None, []
        for step in range(steps):
            images = rng_images[rows, step]
            observation = {"pixels": images, "goal_pixels": goals[rows]}
            chosen, state = agent.predict(observation, state, np.full(len(rows), step == 0), deterministic=True)
            actions.append(chosen)
        return np.stack(actions, axis=1)

    rng_images = rng.integers(0, 256, (3, 5, 16, 16, 3), dtype=np.uint8)
    goals = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    together = play(np.arange(3))
    low, high = model.action_low.numpy(), model.action_high.numpy()
    assert together.shape == (3, 5, 2)
    assert (together >= low).all()
    assert (together <= high).all()
    for row in range(3):
        np.testing.assert_allclose(play(np.array([row]))[0], together[row], atol=1e-4)


@pytest.mark.parametrize("kind", SPACES)
def test_the_agent_executes_the_decoded_plan_and_counts_it(world_model, kind):
    model = world_model(history=2)
    space = tiny_space(model, kind)
    agent = agent_of(model, space, "cem", 2, samples=8, elites=2, iterations=2, seed=3)
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    actions, state = agent.predict({"pixels": images, "goal_pixels": images[::-1]})
    with torch.no_grad():
        seen = model.remember(model.encode(torch.from_numpy(images)).unsqueeze(1), torch.zeros(2, 0, 6))
    plan = torch.from_numpy(state["own.plan"][:, 0])
    searched = space.of(model)
    low, high = searched.bounds()
    assert ((plan >= low) & (plan <= high)).all()
    block = model.denormalize(searched.blocks(seen, plan[:, 0]).detach()).numpy()
    np.testing.assert_allclose(actions, block.reshape(2, 3, 2)[:, 0], atol=1e-5)
    record = agent.last_decision
    assert (record.plans, record.evaluations) == (2, 2 * 2 * 17)  # 8 x 2 sequences and the mean, 2 blocks, 2 plans
    for step in range(1, 3):  # the rest of the block, without planning
        actions, state = agent.predict({"pixels": images, "goal_pixels": images[::-1]}, state, np.zeros(2, bool))
        np.testing.assert_allclose(actions, block.reshape(2, 3, 2)[:, step], atol=1e-5)
        assert agent.last_decision.plans == 0


def test_decoded_actions_imagine_what_the_world_model_does_with_the_blocks(world_model):
    model = world_model(history=2)
    space = tiny_space(model, "vae decoded").of(model)
    z, past, actions = latents(2, 2, 6), latents(2, 1, 6), latents(2, 4, 3, 4)
    state = model.remember(z, past)
    imagined = space.imagine(state, actions)
    low, high = model.block_bounds()
    now, blocks = state, []
    for h in range(3):
        blocks.append(space.blocks(now, actions[:, 1, h]).clamp(low, high))
        now = model.advance(now, blocks[-1])
    real = model.imagine(state, torch.stack(blocks, dim=1).unsqueeze(1))[:, 0]
    torch.testing.assert_close(imagined[:, 1], real, atol=1e-5, rtol=1e-4)


def test_the_study_writes_everything(world_model, small_dataset, tmp_path, monkeypatch):
    model = world_model(image_size=64, action_block=5)
    model.action_low.fill_(-1.0)
    model.action_high.fill_(1.0)
    monkeypatch.setattr(learned_latents, "load", lambda name: SimpleNamespace(world_model=model))
    monkeypatch.setattr(learned_latents, "load_dataset", lambda name: small_dataset)
    monkeypatch.setattr(
        learned_latents, "make_manifest", lambda *args, **kw: make_manifest(*args, **{**kw, "tasks": 1})
    )
    budget = {"samples": 8, "elites": 2, "iterations": 2}
    monkeypatch.setattr(learned_latents, "PLANNERS", {"cem": budget, "mppi": budget})
    found = learned_latents.run(tmp_path, quick=True, progress=False, planners=("cem", "mppi"))
    assert json.loads((tmp_path / "learned-latent-actions.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "learned.png").stat().st_size > 10_000
    text = (tmp_path / "learned-latent-actions.md").read_text()
    assert text == markdown(found)
    assert "not a result" in text
    names = [space["name"] for space in found["spaces"]]
    assert names == ["real", "vae-4", "vae-4 decoded", "vq-10"]
    assert {(cell["space"], cell["planner"]) for cell in found["cells"]} == {
        (name, planner) for name in names for planner in ("cem", "mppi")
    }
    real = found["spaces"][0]
    assert real["decoder_error"] == 0
    assert all(len(cell["gap"]) == learned_latents.HORIZON for cell in found["cells"])
