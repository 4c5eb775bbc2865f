"""DINO-WM: whose features it reads, what is trained, and what a file of it needs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from short_runs import learn
from tiny_kinds import ACTIONS, CONFIGS, SIZE, images

from wm_agents import GCIDM, MPC, load, train_world_model
from wm_agents.checkpoint import Checkpoint, save_checkpoint
from wm_agents.models.dino_wm import REVISIONS, DinoWM, DinoWMConfig
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

pytest_plugins = ["trained"]

WIDTH, DEPTH = 6, 2
SHORT = TrainingConfig(steps=3, batch_size=4, frames=3, evaluate_every=3)


def published(side: int = 3, patch: int = 14) -> dict[str, torch.Tensor]:
    """Random tensors with the names and shapes of a published DINOv2."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    found = {
        "embeddings.cls_token": normal(1, 1, WIDTH),
        "embeddings.mask_token": normal(1, WIDTH),
        "embeddings.position_embeddings": normal(1, 1 + side**2, WIDTH),
        "embeddings.patch_embeddings.projection.weight": normal(WIDTH, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": normal(WIDTH),
        "layernorm.weight": normal(WIDTH),
        "layernorm.bias": normal(WIDTH),
    }
    layers = {
        **{f"attention.attention.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")},
        "attention.output.dense": (WIDTH, WIDTH),
        "mlp.fc1": (4 * WIDTH, WIDTH),
        "mlp.fc2": (WIDTH, 4 * WIDTH),
        "norm1": (WIDTH,),
        "norm2": (WIDTH,),
    }
    for index in range(DEPTH):
        for name, shape in layers.items():
            found[f"encoder.layer.{index}.{name}.weight"] = normal(*shape)
            found[f"encoder.layer.{index}.{name}.bias"] = normal(shape[0])
        for scale in ("layer_scale1", "layer_scale2"):
            found[f"encoder.layer.{index}.{scale}.lambda1"] = normal(WIDTH)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tiny backbone, as transformers writes it."""
    shape = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "patch_size": 14}
    place = tmp_path / "backbone"
    place.mkdir()
    save_file(published(), place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"model_type": "dinov2", **shape}))
    return place


def shaped(folder: Path | str, **changes: object) -> DinoWMConfig:
    base = dataclasses.replace(CONFIGS["dino-wm"], backbone=str(folder), backbone_depth=DEPTH)
    return dataclasses.replace(base, **changes)


def learned(data, config, **options):
    return train_world_model(data, config, SHORT, device="cpu", progress=False, **options)


def test_only_the_predictor_is_trained_and_by_prediction_alone(small_dataset, folder):
    whole, history = learned(small_dataset, shaped(folder))
    start, _ = learned(small_dataset, shaped(folder), callback=lambda *_: False)
    changed = {name for name, value in whole.named_parameters() if not torch.equal(value, start.state_dict()[name])}
    assert changed == {name for name, _ in whole.named_parameters() if name.startswith("predictor.")}
    assert {name for name in history if name.startswith("train/")} == {"train/prediction"}
    read = load_file(folder / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    assert torch.equal(whole.encoder.patches.weight, read.half().float())


def test_a_backbone_of_transformers_gives_the_same_tokens(tmp_path, small_dataset):
    transformers = pytest.importorskip("transformers", reason="not a dependency; names are in other tests")
    shape = transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=42, patch_size=14
    )
    theirs = transformers.Dinov2Model(shape).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.3 * torch.randn_like(weight)).copy_(weight.half())
    theirs.save_pretrained(tmp_path)
    for size in (28, 42, 70):
        model = DinoWM(shaped(tmp_path, backbone_image_size=size, image_size=size), ACTIONS).eval()
        model.fetch()
        frames = images(3, size=size)
        with torch.no_grad():
            wanted = theirs(model.encoder.normalize(frames)).last_hidden_state[:, 1:]
            torch.testing.assert_close(model.encode(frames), wanted, rtol=2e-3, atol=2e-3)


def test_images_of_any_size_are_resized_to_that_of_the_backbone():
    small, large = (DinoWM(shaped("random", image_size=size), ACTIONS).eval() for size in (SIZE, 2 * SIZE))
    large.load_state_dict(small.state_dict())
    frames = images(2)
    doubled = frames.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    with torch.no_grad():
        one, other = small.encode(frames), large.encode(doubled)
    assert one.shape == other.shape == (2, 4, 6)
    assert (one - other).abs().max() < 0.2 * (one[0] - one[1]).abs().max()


@pytest.mark.parametrize("agent", ["cem", "gc-idm"])
def test_its_agents_act_in_a_process_without_backbone_network_or_hub(agent, small_dataset, folder, tmp_path):
    model, _ = learned(small_dataset, shaped(folder))
    made = MPC(model, planner="cem", horizon=2, samples=4, elites=2, iterations=1, device="cpu")
    if agent == "gc-idm":
        made = GCIDM(model, device="cpu").fit(
            small_dataset, training=InverseDynamicsTrainingConfig(steps=2, batch_size=8)
        )
    path = tmp_path / "agent.safetensors"
    made.save(path)
    observation = {"pixels": small_dataset.pixels[0].copy(), "goal_pixels": small_dataset.pixels[9].copy()}
    action, _ = made.predict(observation)
    torch.save([torch.from_numpy(image.copy()) for image in observation.values()], tmp_path / "images.pt")
    for file in folder.iterdir():
        file.unlink()
    code = f"""
import sys
sys.modules["huggingface_hub"] = sys.modules["transformers"] = sys.modules["timm"] = None
import torch, wm_agents
pixels, goal = (image.numpy() for image in torch.load({str(tmp_path / "images.pt")!r}))
agent = wm_agents.load({str(path)!r}, device="cpu")
print(agent.predict(dict(pixels=pixels, goal_pixels=goal))[0].tolist())
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(action.tolist(), abs=1e-5)


def test_a_loaded_one_learns_on_without_its_files(small_dataset, folder, tmp_path):
    """Online learning goes on from the weights of the file, and does not ask for those of the backbone again."""
    from wm_agents.training.continued import ContinuedTraining

    model, _ = learned(small_dataset, shaped(folder))
    save_checkpoint(Checkpoint(model, "cem"), tmp_path / "agent.safetensors")
    for file in folder.iterdir():
        file.unlink()
    loaded = load(tmp_path / "agent.safetensors", device="cpu").world_model
    training = ContinuedTraining(loaded, {}, small_dataset, {"world-model": SHORT})
    training.round(small_dataset, {"world-model": 1})
    frames = images(2, size=64)
    with torch.no_grad():
        assert torch.equal(training.world_model.encode(frames), loaded.encode(frames))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch_size": 7}, r"another shape: set patch_size=14 in DinoWMConfig"),
        ({"token_size": 8, "backbone_depth": 1}, r"set token_size=6, backbone_depth=2 in DinoWMConfig"),
        ({"backbone_heads": 3}, r"set backbone_heads=2"),
    ],
)
def test_a_backbone_of_another_shape_says_which(changes, said, small_dataset, folder):
    with pytest.raises(ValueError, match=said):
        learned(small_dataset, shaped(folder, **changes))


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="backbone_image_size 64 must be a multiple of patch_size 14"):
        DinoWMConfig(backbone_image_size=64)
    with pytest.raises(ValueError, match="token_size 384 must be a multiple of backbone_heads 5"):
        DinoWMConfig(backbone_heads=5)
    with pytest.raises(ValueError, match="backbone must be text"):
        DinoWMConfig(backbone=3)  # type: ignore[arg-type]


def test_files_that_are_no_backbone_are_refused(small_dataset, folder):
    def refused(said: str) -> None:
        with pytest.raises(ValueError, match=said):
            learned(small_dataset, shaped(folder))

    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "lambda1" not in name}, folder / "model.safetensors")
    refused("does not fit its config.json: .*lambda1")
    (folder / "model.safetensors").write_bytes(b"nothing")
    refused("has no config.json and model.safetensors of a backbone that can be read")
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "clip"}')
    refused("is no DINOv2")


def test_a_backbone_comes_from_hugging_face_at_its_commit(small_dataset, folder, monkeypatch):
    asked = []

    def hf_hub_download(repo_id, filename, *, revision):
        asked.append((repo_id, filename, revision))
        return str(folder / filename)

    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    name, commit = next(iter(REVISIONS.items()))
    model, _ = learned(small_dataset, shaped(name, revision=""))
    assert model.config.revision == commit
    assert asked == [(name, "config.json", commit), (name, "model.safetensors", commit)]
    with pytest.raises(ValueError, match="give revision="):
        learned(small_dataset, shaped("me/mine", revision=""))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'wm-agents\[hub\]'"):
        learned(small_dataset, shaped(name))


def test_it_is_a_kind_and_no_objective(small_dataset):
    with pytest.raises(ValueError, match=r"'dino-wm' is a kind of world model .* train_world_model\(data, 'dino-wm'\)"):
        learn(small_dataset, objective="dino-wm")
