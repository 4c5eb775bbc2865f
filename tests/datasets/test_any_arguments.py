"""``from_episodes`` and ``load`` take what people have, and refuse the rest in one line; nothing stays half-written."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from wm_agents import datasets

RNG = np.random.default_rng(0)


def frames(count=11, height=20, width=20):
    return RNG.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def acts(count=10, size=2):
    return RNG.uniform(-1, 1, (count, size))


def build(images=None, actions=None, name="mine/any-v0", **options):
    images = [frames(), frames()] if images is None else images
    actions = [acts(), acts()] if actions is None else actions
    return datasets.from_episodes(images, actions, name=name, **{"image_size": 16, "progress": False, **options})


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "actions",
    [
        lambda: [acts().tolist(), acts().tolist()],
        lambda: (acts() for _ in range(2)),
        lambda: ((row for row in acts()) for _ in range(2)),
        lambda: [torch.rand(10, 2, requires_grad=True), torch.rand(10, 2)],
        lambda: [acts().astype(object), acts().astype(np.float16)],
        lambda: np.stack([acts(), acts()]),
        lambda: [acts() > 0, RNG.integers(0, 4, (10, 2))],
    ],
)
def test_actions_of_many_kinds(actions):
    assert build(actions=actions()).lengths.tolist() == [10, 10]


@pytest.mark.parametrize(
    "change",
    [
        lambda images: (image for image in images),
        lambda images: ((frame for frame in image) for image in images),
        lambda images: [torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 for image in images],
        lambda images: [image / 255 * (1 + 1e-7) for image in images],
        lambda images: [image[..., 0] for image in images],
    ],
)
def test_images_of_many_kinds(change):
    assert build(change([frames(), frames()])).pixels.shape == (22, 16, 16, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 3}, "'images': it is 3, where an array, a list or a generator is needed"),
        ({"images": "videos/"}, "'images': it is 'videos/'"),
        ({"images": {"a": frames()}}, "'images': it is"),
        ({"images": [None, frames()]}, "episode 0: there are no images for it"),
        ({"states": [acts(11), None]}, "episode 1: there are no states for it"),
        ({"states": [None, acts(11)]}, "episode 0: there are no states for it"),
        ({"state_names": 5}, "state_names must be a list of texts"),
        ({"state_names": "xy"}, "state_names must be a list of texts"),
        ({"action_low": 1, "action_high": -1}, "action_low must be at most action_high, not 1 and -1"),
        ({"action_low": float("nan"), "action_high": 1}, "action_low must be at most action_high"),
        ({"images": [[*frames(10), None], frames()]}, "frame 10 is not valid"),
        ({"images": [["a.png"] * 11, frames()]}, "frame 0 is not valid.*a str"),
        ({"images": [frames(), frames(11, 30, 10)]}, "episode 1.*30 x 10 pixels, those of the first episode 20 x 20"),
        ({"images": [[*frames(5), *frames(6, 10)], frames()]}, "frame 5 has the shape"),
        ({"images": [frames(10), frames(10)]}, r"10 frames and as many actions.*actions\[:-1\]"),
        ({"actions": 3}, "'actions': it is 3"),
        ({"actions": [None, acts()]}, "episode 0: there are no actions for it"),
        ({"actions": [acts()[:, 0], acts()[:, 0]]}, r"shape \(10,\).*actions\[:, None\]"),
        ({"actions": [acts() * 1j, acts()]}, "complex128"),
        ({"actions": [[[10**400, 1]] * 10, acts()]}, "no numbers"),
        ({"actions": [acts() * 1e300, acts()]}, "row 0 is too large for float32"),
        ({"actions": [[["a", "b"]] * 10, acts()]}, "no numbers but <U1"),
        ({"actions": [[[1, 2]] * 9 + [[1]], acts()]}, "rows differ in length"),
        ({"states": 3}, "'states': it is 3"),
        ({"states": [acts(10), acts(10)]}, "10 rows for 11 frames"),
        ({"state_names": ["x"]}, "give one name for each"),
        ({"states": [acts(11), acts(11)], "state_names": ["x", "x"]}, "must differ"),
        ({"env_id": 3}, "env_id must be text"),
        ({"overwrite": "no"}, "overwrite must be True or False"),
        ({"name": "x/one-v0"}, "a namespace has at least two"),
        ({"name": "mine/" + "a" * 300 + "-v0"}, "no part more than 200"),
        ({"name": None}, "is not a dataset name"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(options, message, own_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message) as error:
            build(**options)
    assert "\n" not in str(error.value)
    assert datasets.list_datasets() == []
    assert not [path for path in own_folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_recording_that_stops_midway_leaves_what_was_there(stop, own_folder):
    def camera():
        yield frames()
        raise stop

    with pytest.raises(stop):
        build(camera())
    assert not [path for path in own_folder.rglob("*") if path.is_file()]
    before = build().actions.copy()
    with pytest.raises(stop):
        build(camera(), overwrite=True)
    assert np.array_equal(datasets.load("mine/any-v0").actions, before)


@pytest.mark.parametrize("name", [None, 3, "", "x/y-v0", "mine/a b-v0", "../up-v0", "/tmp", "mine/any"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="is not a dataset name"):
        datasets.load(name)
