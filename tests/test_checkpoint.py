from __future__ import annotations

import errno
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from wm_agents.agents import GCIDM
from wm_agents.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    versions,
    write_atomically,
    write_tensors,
)
from wm_agents.configs import build_config
from wm_agents.models import LeWMConfig
from wm_agents.tensorfile import FORMATS, content_hash

PROVENANCE = {"seed": 3, "measured": [0.5, 1e-30, None], "steps": {"world_model": 10}, "note": "ö\n", "ok": True}


@pytest.fixture
def checkpoint(world_model, inverse_dynamics):
    return Checkpoint(
        world_model(),
        heads={"gc-idm": inverse_dynamics()},
        agent="cem",
        options={"cem": {"horizon": 4}},
        env_id="wm/TwoRoom-v0",
        provenance=PROVENANCE,
    )


@pytest.fixture
def file(checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, path)
    return path


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    weights, others = first.state_dict(), second.state_dict()
    assert list(weights) == list(others)
    for name, value in weights.items():
        assert value.dtype == others[name].dtype
        assert torch.equal(value, others[name]), name


# Round trips


@pytest.mark.parametrize(
    "shape",
    [{}, {"history": 1}, {"predictor": "transformer", "history": 3}, {"encoder": "vit"}, {"action_size": 5}],
    ids=str,
)
def test_roundtrip_is_bit_equal(world_model, tmp_path, shape):
    model = world_model(**shape)
    save_checkpoint(Checkpoint(model), tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.world_model.config == model.config
    assert_same_weights(model, loaded.world_model)
    assert not loaded.world_model.training
    pixels = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.world_model.encode(pixels), model.encode(pixels), rtol=0, atol=1e-3)
    assert (loaded.heads, loaded.agent, loaded.options, loaded.env_id) == ({}, "", {}, "")


def test_rounded_weights_make_a_file_of_half_the_size_and_come_back_exactly(world_model, tmp_path):
    model = world_model()
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_checkpoint(Checkpoint(model), full)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half() if value.ndim > 1 else value)
    GCIDM(model).save(half)
    loaded = load_checkpoint(half).world_model
    assert_same_weights(model, loaded)
    stored, _ = read_tensors(half)
    for name, value in model.named_parameters():
        assert stored[f"world_model.{name}"].dtype == (torch.float16 if value.ndim > 1 else torch.float32), name
    assert half.stat().st_size < 0.75 * full.stat().st_size


def test_roundtrip_keeps_inverse_dynamics_and_provenance(checkpoint, file):
    loaded = load_checkpoint(str(file))
    head = loaded.heads["gc-idm"]
    assert head.config == checkpoint.heads["gc-idm"].config
    assert_same_weights(checkpoint.heads["gc-idm"], head)
    assert not head.training
    assert (loaded.agent, loaded.options, loaded.env_id) == ("cem", {"cem": {"horizon": 4}}, "wm/TwoRoom-v0")
    assert loaded.provenance == PROVENANCE


def test_the_hash_is_the_same_for_the_same_contents_and_another_after_any_change(checkpoint, file, tmp_path):
    digest = save_checkpoint(checkpoint, file)
    assert digest == save_checkpoint(load_checkpoint(file), tmp_path / "b.safetensors")
    checkpoint.provenance = {**PROVENANCE, "seed": 4}
    assert save_checkpoint(checkpoint, file) != digest


def test_equal_contents_are_equal_files(file, tmp_path):
    again = load_checkpoint(file)
    for number in range(8):  # safetensors alone writes the metadata in an order of chance
        save_checkpoint(again, tmp_path / str(number))
        assert (tmp_path / str(number)).read_bytes() == file.read_bytes()


def test_numpy_values_are_stored_as_json_and_other_objects_are_refused(world_model, tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    save_checkpoint(Checkpoint(world_model(), provenance={"rate": np.float32(0.5), "seeds": np.arange(3)}), path)
    assert load_checkpoint(path).provenance == {"rate": 0.5, "seeds": [0, 1, 2]}
    before = path.read_bytes()
    with pytest.raises(TypeError, match="object cannot be stored in a checkpoint's header"):
        save_checkpoint(Checkpoint(world_model(), provenance={"thing": object()}), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_content_hash_covers_header_names_types_shapes_and_bytes():
    base = {"a": torch.zeros(2, 3)}
    others = [
        ({"b": torch.zeros(2, 3)}, "{}"),
        ({"a": torch.zeros(3, 2)}, "{}"),
        ({"a": torch.zeros(2, 3, dtype=torch.int32)}, "{}"),
        ({"a": torch.full((2, 3), 1e-45)}, "{}"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(0)}, "{}"),
        (base, "{ }"),
    ]
    assert content_hash(base, "{}") == content_hash({"a": torch.zeros(3, 2).T}, "{}")
    assert content_hash(base, "{}") not in {content_hash(*other) for other in others}


def test_versions_name_what_a_result_depends_on():
    assert {"wm-agents", "python", "torch", "gymnasium", "stable-baselines3", "mujoco"} <= versions().keys()
    assert versions()["torch"] == torch.__version__


# Damage


def refused(path: Path, message: str) -> None:
    """Loading ``path`` raises a CheckpointError that names the file and says ``message``."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["none.safetensors", "."])
def test_missing_file(tmp_path, name):
    refused(tmp_path / name, r"there is no checkpoint file at .*: give the path of a file that .*save\(\) wrote")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999, -1])
def test_truncated_file(file, kept):
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    refused(file, "is damaged or not a safetensors file .*: get it again")


def test_appended_bytes(file):
    file.write_bytes(file.read_bytes() + b"\0")
    refused(file, "get it again")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), in_header=st.booleans())
def test_any_flipped_bit_is_noticed(file, position, bit, in_header):
    data = bytearray(file.read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    at = int(position * header) if in_header else header + int(position * (len(data) - header))
    data[at] ^= 1 << bit
    damaged = file.with_name("damaged.safetensors")
    damaged.write_bytes(data)
    refused(damaged, "[Gg]et it again|its format is" if in_header else "does not match its own SHA-256.* Get it again")


@pytest.mark.parametrize(("old", "new"), [(b"wm/TwoRoom-v0", b"wm/TwoRoom-v1"), (b"TwoRoom", b"TwoDoor")])
def test_edited_metadata(file, old, new):
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new))
    refused(file, "does not match its own SHA-256")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "wm-agents/999", "header": "{}"}])
def test_safetensors_file_of_something_else(tmp_path, metadata):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    refused(
        tmp_path / "other.safetensors",
        r"not one of wm-agents/1, wm-agents/2\. Give a file that an agent's save\(\) wrote",
    )


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


@pytest.mark.parametrize("writer", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, writer):
    trap, marker = tmp_path / "trap.safetensors", tmp_path / "executed"
    with trap.open("wb") as stream:
        writer(Trap(marker), stream)
    refused(trap, "is damaged or not a safetensors file")
    assert not marker.exists()
    with trap.open("rb") as stream:  # the trap works
        pickle.load(stream) if writer is pickle.dump else torch.load(stream, weights_only=False)
    assert marker.exists()


def config(header: dict) -> dict:
    return header["world_model"]["config"]


def rewrite(path: Path, change) -> None:
    """Write ``path`` again, with a valid hash, after ``change(tensors, header)``."""
    tensors, header = read_tensors(path)
    change(tensors, header)
    write_tensors(tensors, header, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, h: config(h).update(depth=3), r"LeWMConfig has no field \['depth'\]"),
        (lambda _, h: h["heads"]["gc-idm"].update(a=1, b=2), r"InverseDynamicsConfig has no field \['a', 'b'\]"),
        (lambda _, h: config(h).update(encoder="vti"), "Unknown encoder 'vti'"),
        (lambda _, h: config(h).update(encoder=["conv"]), r"Unknown encoder"),
        (lambda _, h: config(h).update(history=0), "history must be a whole number of at least 1"),
        (lambda _, h: config(h).update(latent_size="6"), "latent_size must be a whole number"),
        (lambda _, h: config(h).update(latent_size=7), "size mismatch"),
        (lambda _, h: config(h).update(action_size=3), r"expected \(3,\)"),
        (lambda _, h: config(h).update(latent_size=10**12), "far larger"),
        (lambda _, h: config(h).update(latent_size=10**30), "far larger"),
        (lambda _, h: config(h).update(predictor_width=10**5), "far larger"),
        (lambda _, h: config(h).update(predictor_depth=10**9), "far larger"),
        (lambda _, h: h["heads"]["gc-idm"].update(width=10**9), "far larger"),
        (lambda _, h: h.pop("world_model"), "'world_model'"),
        (lambda _, h: h.update(world_model=None), "NoneType"),
        (lambda _, h: h.update(world_model={"kind": "lemw", "config": {}}), "Unknown world model 'lemw'"),
        (lambda _, h: h.update(world_model=[]), "list indices"),
        (lambda _, h: h.update(heads=["gc-idm"]), "its 'heads' must be of type dict, not list"),
        (lambda _, h: h.update(heads={"gc-idm": 3}), "int"),
        (lambda _, h: h.update(heads={"gcidm": {}}), "Unknown head 'gcidm'"),
        (lambda _, h: h.update(options=[]), "its 'options' must be of type dict"),
        (lambda _, h: h.update(options={"cem": 3}), "its options must be by agent"),
        (lambda _, h: h.update(agent=3), "its 'agent' must be of type str"),
        (lambda _, h: h.update(env_id=None), "its 'env_id' must be of type str"),
        (lambda _, h: h.update(provenance="x"), "its 'provenance' must be of type dict"),
        (lambda _, h: h.update(needs=3), "not iterable"),
        (lambda _, h: h.update(needs=[["head"]]), "unpack"),
        (lambda t, _: t.pop("world_model.action_low"), "action_low"),
        (lambda t, _: t.pop("heads.gc-idm.head.weight"), "Missing key"),
        (lambda t, _: t.update({"world_model.extra": torch.zeros(1)}), "Unexpected key"),
    ],
)
def test_contents_that_do_not_fit_this_version(file, change, message):
    rewrite(file, change)
    refused(file, f"(?s)that this version can build .*{message}.*: give a file that .* wrote, or upgrade wm-agents")


@pytest.mark.parametrize("text", [None, "", "{", "[]", "no JSON"])
def test_header_that_is_not_a_json_object(tmp_path, text):
    tensors = {"weight": torch.zeros(2)}
    metadata = {"format": FORMATS[-1], "sha256": content_hash(tensors, text or "")}
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata if text is None else {**metadata, "header": text})
    refused(tmp_path / "a.safetensors", "header|this version can build")


def test_build_config_builds_what_fits():
    assert build_config(LeWMConfig, {"history": 3}) == LeWMConfig(history=3)


# Atomic writing


def disk_full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_args, **_kwargs):
    raise KeyboardInterrupt


class FullAfterSomeBytes:
    """Stands in for ``os.fdopen``: a file on a disk that fills up while it is being written."""

    def __init__(self, handle: int, *_args) -> None:
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *_error) -> None:
        os.close(self.handle)

    def write(self, data: bytes) -> None:
        os.write(self.handle, data[: len(data) // 2])
        disk_full()


@pytest.mark.parametrize(
    ("function", "failure", "error"),
    [
        ("replace", disk_full, OSError),
        ("fsync", disk_full, OSError),
        ("fdopen", FullAfterSomeBytes, OSError),
        ("replace", interrupted, KeyboardInterrupt),
        ("fsync", interrupted, KeyboardInterrupt),
    ],
    ids=["rename", "sync", "write", "Ctrl-C at rename", "Ctrl-C at sync"],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(file, checkpoint, monkeypatch, function, failure, error):
    before = file.read_bytes()
    checkpoint.env_id = "wm/Other-v0"
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failure)
        with pytest.raises(error):
            save_checkpoint(checkpoint, file)
        with pytest.raises(error):
            save_checkpoint(checkpoint, file.with_name("new.safetensors"))
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
    save_checkpoint(checkpoint, file)
    assert load_checkpoint(file).env_id == "wm/Other-v0"
    assert os.listdir(file.parent) == [file.name]


def test_the_old_file_is_replaced_only_when_the_new_one_is_complete(tmp_path, monkeypatch):
    target, seen = tmp_path / "a.bin", []
    target.write_bytes(b"old")
    replace = os.replace

    def watch(source, destination):
        seen.append((Path(source).parent, Path(source).read_bytes(), target.read_bytes()))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", watch)
    write_atomically(b"new contents", target)
    assert seen == [(tmp_path, b"new contents", b"old")]  # same directory: a rename, not a copy
    assert target.read_bytes() == b"new contents"
    assert target.stat().st_mode & 0o777 == 0o644
