"""Published LeWorldModel files: what is loaded and computed, what is refused, and agents on it."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
import types

import gymnasium
import numpy as np
import published
import pytest
import torch

import wm_agents
from wm_agents import MPC, datasets, from_pretrained
from wm_agents.checkpoint import CheckpointError
from wm_agents.models import PublicLeWMConfig
from wm_agents.pretrained import REVISIONS

pytest_plugins = ["walk"]

QUIET = {"image_size": 16, "progress": False}
POSITIONS = "predictor.pos_embedding"
SMALL = {"image_size": 28, "layers": 1, "blocks": 1}


def folder(path, weights=None, config=None, **sizes):
    """A folder as it is published."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(published.config(**sizes) if config is None else config))
    torch.save(published.weights(**sizes) if weights is None else weights, path / "weights.pt")
    return path


def images(*lead, size=224):
    return torch.randint(0, 256, (*lead, size, size, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def full(tmp_path_factory, walk):
    """The published sizes: the weights, and the world model that was loaded from a file of them."""
    weights = published.weights()
    return weights, from_pretrained(folder(tmp_path_factory.mktemp("full"), weights), walk)


def test_the_published_size(full):
    weights, model = full
    assert len(weights) == 303
    counted = sum(value.numel() for name, value in weights.items() if "running" not in name and "tracked" not in name)
    assert counted == sum(weight.numel() for weight in model.parameters()) == 18_034_478
    assert model.config == PublicLeWMConfig()
    assert not model.training


def test_latents_and_imagined_latents_are_those_of_an_independent_computation(full):
    weights, model = full
    frames = images(2, 3)
    with torch.no_grad():
        z = model.encode(frames)
        wanted = torch.stack([published.encoded(weights, part) for part in frames])
        torch.testing.assert_close(z, wanted, rtol=1e-4, atol=1e-4)
        blocks = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(2))
        for seen in (1, 2, 3):
            state = model.remember(z[:, :seen], blocks[:, : seen - 1])
            found = model.imagine(state, blocks[:, None, seen - 1 : seen + 2])[:, 0]
            latents = z[:, :seen]
            for t in range(3):  # from at most three frames, the last of them imagined
                last = slice(max(0, seen + t - 3), seen + t)
                latents = torch.cat(
                    [latents, published.following(weights, latents[:, last], blocks[:, last])[:, None]], 1
                )
            torch.testing.assert_close(found, latents[:, seen:], rtol=1e-4, atol=1e-4)
        forward = model.predictor(z, blocks[:, :3])  # what training sees
        torch.testing.assert_close(forward[:, 2], published.following(weights, z, blocks[:, :3]), rtol=1e-4, atol=1e-4)


def test_a_vit_of_transformers_has_these_names_and_gives_the_same(tmp_path, walk):
    transformers = pytest.importorskip("transformers", reason="not a dependency; both layouts are in other tests")
    shape = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=1, num_attention_heads=3, intermediate_size=768, image_size=28, patch_size=14
    )
    vit = transformers.ViTModel(shape, add_pooling_layer=False, use_mask_token=False).eval()
    theirs = {f"encoder.{name}": value for name, value in vit.state_dict().items()}
    others = {name: value for name, value in published.weights(**SMALL).items() if not name.startswith("encoder.")}
    model = from_pretrained(folder(tmp_path / "f", {**others, **theirs}, **SMALL), walk)
    frames = images(3, size=28)
    with torch.no_grad():
        wanted = vit(model.encoder.normalize(frames)).last_hidden_state[:, 0]
        torch.testing.assert_close(model.encoder(frames), wanted, rtol=1e-4, atol=1e-5)


def test_an_agent_plans_with_it_and_is_saved_in_our_format(full, tmp_path):
    options = {"planner": "cem", "horizon": 2, "samples": 4, "elites": 2, "iterations": 1, "device": "cpu"}
    agent = MPC(full[1], **options)
    observation = {"pixels": images(1)[0].numpy(), "goal_pixels": images(2)[1].numpy()}
    action, _ = agent.predict(observation)
    assert agent.action_space.contains(action)
    agent.save(tmp_path / "lewm.safetensors")
    again = wm_agents.load(tmp_path / "lewm.safetensors", device="cpu")
    np.testing.assert_array_equal(again.predict(observation)[0], action)
    with pytest.raises(ValueError, match="224"):
        agent.predict({name: image[:64, :64] for name, image in observation.items()})


def test_both_layouts_hold_the_same_weights_and_data_are_given_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    actions = np.random.default_rng(0).uniform(-3, 5, (2, 9, 2))
    data = datasets.from_episodes(np.zeros((2, 10, 16, 16, 3), np.uint8), actions, name="mine/a-v0", **QUIET)
    weights = published.weights(**SMALL)
    assert set(published.renamed(weights)) & set(weights) < set(weights)
    one = from_pretrained(folder(tmp_path / "4", weights, **SMALL), "mine/a-v0")
    two = from_pretrained(folder(tmp_path / "5", published.renamed(weights), **SMALL), data)
    for name, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], value), name
    np.testing.assert_allclose(one.action_mean, actions.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(one.action_std, actions.std((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(one.action_low, data.action_low)


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: without(w, "predictor.pos_embedding"), r"predictor\.pos_embedding is missing"),
        (lambda w: without(w, "encoder.encoder.layer.0.attention.attention.key.bias"), r"key\.bias is missing"),
        (lambda w: {**w, "encoder.pooler.dense.bias": torch.zeros(192)}, r"encoder\.pooler\.dense\.bias is unknown"),
        (
            lambda w: {**w, "encoder.embeddings.position_embeddings": torch.zeros(1, 257, 192)},
            r"position_embeddings has the shape \(1, 257, 192\), not \(1, 5, 192\)",
        ),
        (lambda w: {**w, POSITIONS: torch.full((1, 3, 192), math.nan)}, f"{POSITIONS} does not hold finite numbers"),
        (lambda w: {**w, POSITIONS: w[POSITIONS].to_sparse()}, f"{POSITIONS} does not hold finite numbers"),
        (lambda w: {**w, POSITIONS: w[POSITIONS].to("meta")}, f"{POSITIONS} does not hold finite numbers"),
        (lambda w: {**w, POSITIONS: w[POSITIONS] * 1j}, f"{POSITIONS} does not hold finite numbers"),
        (lambda w: {**w, **published.renamed(w)}, "twice, in both layouts"),
        (lambda w: {}, r"and \d+ more"),
        (lambda w: [w], "no tensors by name"),
        (lambda w: {**w, "epoch": 3}, "no tensors by name"),
    ],
)
def test_other_tensors_are_named(tmp_path, walk, change, said):
    with pytest.raises(CheckpointError, match=said) as error:
        from_pretrained(folder(tmp_path / "f", change(published.weights(**SMALL)), **SMALL), walk)
    assert "\n" not in str(error.value)


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, walk):
    place = folder(tmp_path / "f", {**published.weights(**SMALL), "x": Evil(tmp_path / "ran")}, **SMALL)
    with pytest.raises(CheckpointError, match="could run code when it is opened, and was not opened"):
        from_pretrained(place, walk)
    (place / "weights.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        from_pretrained(place, walk)
    assert not (tmp_path / "ran").exists()


def test_damaged_and_missing_files_are_named(tmp_path, walk):
    place = folder(tmp_path / "f", **SMALL)
    whole = (place / "weights.pt").read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        (place / "weights.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"weights\.pt is damaged"):
            from_pretrained(place, walk)
    (place / "weights.pt").unlink()
    with pytest.raises(CheckpointError, match=r"there is no .*weights\.pt"):
        from_pretrained(place, walk)
    (place / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"there is no .*config\.json"):
        from_pretrained(place, walk)


def test_class_names_are_ignored_and_sizes_are_not(tmp_path, walk):
    config = published.config(**SMALL)
    config["_target_"] = config["encoder"]["_target_"] = "os.system"
    place = folder(tmp_path / "f", config=config, **SMALL)
    from_pretrained(place, walk)
    for part, name, value, said in (
        ("predictor", "dim_head", 32, r"predictor\.dim_head is 32, and only 64 is known"),
        ("encoder", "size", "small", r"encoder\.size is small"),
        ("predictor", "depth", -1, "predictor_depth must be a whole number"),
        ("predictor", "depth", 10**9, r"does not fit its config\.json: its configuration asks for far larger networks"),
        ("encoder", "image_size", 29, r"does not fit its config\.json: image_size 29 is not a multiple"),
        ("action_encoder", "input_dim", None, "blocks of None numbers"),
        ("action_encoder", "input_dim", 15, "blocks of 15 numbers, and the actions of walk have 2"),
    ):
        other = json.loads(json.dumps(config))
        other[part][name] = value
        (place / "config.json").write_text(json.dumps(other))
        with pytest.raises(ValueError, match=said):
            from_pretrained(place, walk)
        assert torch.is_grad_enabled(), "the caller's modes stay as they were"
    for nonsense in ([], {}, {"encoder": 3}):
        (place / "config.json").write_text(json.dumps(nonsense))
        with pytest.raises(CheckpointError, match="no configuration of a published LeWorldModel"):
            from_pretrained(place, walk)


def test_a_repository_is_read_at_its_commit(tmp_path, walk, monkeypatch):
    place, asked = folder(tmp_path / "f", **SMALL), []

    def hf_hub_download(repo_id, filename, *, revision):
        if repo_id == "me/offline":
            raise OSError("no route to host\nand more")
        asked.append((repo_id, filename, revision))
        return str(place / filename)

    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    assert from_pretrained("quentinll/lewm-pusht", walk).config.image_size == 28
    assert asked == [
        ("quentinll/lewm-pusht", name, REVISIONS["quentinll/lewm-pusht"]) for name in ("config.json", "weights.pt")
    ]
    assert all(len(revision) == 40 for revision in REVISIONS.values())
    with pytest.raises(ConnectionError, match=r"me/offline cannot be downloaded \(no route to host\)"):
        from_pretrained("me/offline", walk, revision="abc")
    with pytest.raises(ValueError, match=r"there is no folder me/mine.* give revision="):
        from_pretrained("me/mine", walk)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'wm-agents\[hub\]'"):
        from_pretrained("quentinll/lewm-pusht", walk)
    with pytest.raises(ValueError, match="a dataset or its name, not Box"):
        from_pretrained(place, gymnasium.spaces.Box(-1, 1, (2,)))
    with pytest.raises(CheckpointError, match="there is no folder"):
        from_pretrained(tmp_path / "nowhere", walk)
