"""Manifests: the same tasks again, drawn from held-out episodes, and files that tell when they were changed."""

import hashlib
import json

import gymnasium as gym
import numpy as np
import pytest
from chaser import UMAZE

from wm_agents.datasets import episode_seed, pairs, rollout_states
from wm_agents.evaluation import Manifest, make_manifest

pytest_plugins = ["chaser"]


def test_manifest_is_reproducible_and_its_hash_covers_everything(manifest):
    again = make_manifest(UMAZE, tasks=10, offset=25, budget=40, seed=3)
    assert again == manifest
    assert again.sha256 == manifest.sha256
    assert hash(again) == hash(manifest)
    assert make_manifest(UMAZE, tasks=10, offset=25, budget=40, seed=4) != manifest
    assert make_manifest(UMAZE, tasks=10, offset=25, budget=41, seed=3) != manifest
    beginning = make_manifest(UMAZE, tasks=4, offset=25, budget=40, seed=3)
    np.testing.assert_array_equal(beginning.starts, manifest.starts[:4])
    content = json.loads(manifest.to_json())
    stated = content.pop("sha256")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert stated == manifest.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_tasks_come_from_distinct_held_out_episodes_and_are_unsolved(manifest):
    assert len(manifest) == 10
    assert len(set(manifest.sources[:, 0])) == 10
    env = gym.make(UMAZE, obs_type="state")
    assert not env.unwrapped.successes(manifest.starts, manifest.goals)["moderate"].any()
    for i in (0, 7):
        episode, step = manifest.sources[i]
        states, _ = rollout_states(env, "waypoint", int(step) + 25, episode_seed("evaluate", 3, int(episode)))
        np.testing.assert_allclose(states[step], manifest.starts[i], atol=1e-6)
        np.testing.assert_allclose(states[step + 25], manifest.goals[i], atol=1e-6)
    env.close()


def test_random_offset_draws_free_states_at_rest():
    manifest = make_manifest(UMAZE, tasks=20, offset="random", budget=300, seed=0)
    assert manifest.policy == ""
    assert manifest.sources.shape == (0, 2)
    assert not manifest.starts[:, 2:].any()
    assert manifest == make_manifest(UMAZE, tasks=20, offset="random", budget=300, seed=0, policy="smooth-random")
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 0}, "at least one task"),
        ({"offset": 0}, "offset must be"),
        ({"offset": "rand"}, "offset must be"),
        ({"offset": 2.5}, "offset must be"),
        ({"budget": 0}, "budget must be"),
        ({"offset": 301}, r"longer than an episode.*300 steps.*at most 300"),
        ({"seed": -1}, "seed must be"),
        ({"policy": "waypont"}, "Did you mean 'waypoint'"),
        ({"env_id": "wm/PointMaze-Umaze-v0"}, f"Did you mean '{UMAZE}'"),
    ],
)
def test_bad_settings_name_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        make_manifest(**{"env_id": UMAZE, "tasks": 2, **options})


def test_an_offset_that_never_leaves_the_goal_is_an_error():
    with pytest.raises(ValueError, match=r"unsolved at the start.*larger offset"):
        make_manifest(UMAZE, tasks=2, offset=1)


def test_episodes_that_their_policy_ends_too_early_are_left_out(monkeypatch):
    """Reaching policies end an episode where they arrive, most of them before its limit of 200 steps."""
    tasks = make_manifest("wm/Reacher-v0", policy="reach", tasks=4, offset=25, seed=1001)
    env = gym.make("wm/Reacher-v0", obs_type="state")
    for goal, (episode, step) in zip(tasks.goals, tasks.sources, strict=True):
        states, _ = rollout_states(env, "reach", 200, episode_seed("evaluate", 1001, int(episode)))
        np.testing.assert_allclose(goal, states[step + 25], atol=1e-6)
    monkeypatch.setattr(pairs, "TOO_SHORT", 2)
    with pytest.raises(ValueError, match="2 episodes in a row end too early for goals 199 steps away"):
        make_manifest("wm/Reacher-v0", policy="reach", tasks=4, offset=199, seed=1001)


def test_manifest_file_round_trip_and_damage(manifest, tmp_path):
    path = tmp_path / "new" / "tasks.json"
    manifest.save(path)
    loaded = Manifest.load(path)
    assert loaded == manifest
    np.testing.assert_array_equal(loaded.goals, manifest.goals)
    assert [file.name for file in path.parent.iterdir()] == ["tasks.json"]
    text = path.read_text()
    damaged = {
        text[:200]: "is no manifest",
        "[]": "is no manifest",
        "{}": "field 'format' is missing",
        text.replace('"budget": 40', '"budget": 400'): "was changed",
        text.replace('"budget": 40', '"budget": "40"'): "budget must be of type int",
        text.replace('"format": 1', '"format": 9'): "format 9",
        text.replace('"goals"', '"gaols"'): "field 'goals' is missing",
    }
    for content, message in damaged.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            Manifest.load(path)
        assert str(path) in str(error.value)
        assert "make_manifest" in str(error.value)
    with pytest.raises(FileNotFoundError):
        Manifest.load(tmp_path / "absent.json")


def test_manifest_refuses_bad_content():
    ok = {"env_id": UMAZE, "policy": "", "offset": 5, "budget": 5, "seed": 0, "sources": []}
    with pytest.raises(ValueError, match="at least one task"):
        Manifest(**ok, starts=np.empty((0, 4)), goals=np.empty((0, 4)))
    with pytest.raises(ValueError, match="one shape"):
        Manifest(**ok, starts=np.zeros((2, 4)), goals=np.zeros((1, 4)))
    with pytest.raises(ValueError, match="finite"):
        Manifest(**ok, starts=np.full((1, 4), np.nan), goals=np.zeros((1, 4)))
    manifest = Manifest(**ok, starts=np.full((1, 4), -1e-9), goals=np.zeros((1, 4)))
    assert manifest == Manifest(**ok, starts=np.zeros((1, 4)), goals=np.zeros((1, 4)))
    with pytest.raises(ValueError, match="read-only"):
        manifest.starts[0, 0] = 1


def test_pairs_that_any_test_counts_as_solved_are_no_tasks():
    manifest = make_manifest("wm/PushT-v0", tasks=12, offset=10, budget=20, seed=0)
    assert manifest.policy == "play"
    env = gym.make("wm/PushT-v0", obs_type="state")
    for solved in env.unwrapped.successes(manifest.starts, manifest.goals).values():
        assert not solved.any()
    # The episodes left out are those whose block stayed where it is or whose agent came back.
    skipped = sorted(set(range(manifest.sources[-1, 0])) - set(manifest.sources[:, 0]))
    assert skipped
    steps = np.random.default_rng(episode_seed("evaluate", 0, 0).spawn(1)[0]).integers(
        291, size=manifest.sources[-1, 0]
    )
    for episode in skipped[:3]:
        at = int(steps[episode])
        states, _ = rollout_states(env, "play", at + 10, episode_seed("evaluate", 0, episode))
        assert any(solved for solved in env.unwrapped.successes(states[at], states[-1]).values())
    env.close()


NUMBERS = [np.int64(4), np.int16(4), np.uint8(4), np.float64(4.0), np.array(4), np.array([4])]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{type(number).__name__}-{np.shape(number)}")
def test_numbers_of_numpy_are_numbers(number, tmp_path):
    plain = make_manifest(UMAZE, tasks=4, offset="random", budget=4, seed=4)
    manifest = make_manifest(np.str_(UMAZE), tasks=number, offset=np.str_("random"), budget=number, seed=number)
    assert manifest == plain
    manifest.save(tmp_path / "tasks.json")
    assert Manifest.load(tmp_path / "tasks.json") == plain
    given = Manifest(UMAZE, np.str_(""), number, number, number, plain.starts, plain.goals, [])
    given.save(tmp_path / "given.json")
    assert Manifest.load(tmp_path / "given.json") == given
    assert all(type(value) is int for value in (given.offset, given.budget, given.seed))


@pytest.mark.parametrize("wrong", [True, np.True_, 2.5, np.float32(0.5), float("nan"), "4", None, np.array([1, 2])])
@pytest.mark.parametrize("name", ["tasks", "offset", "budget", "seed"])
def test_what_is_no_whole_number_is_refused_at_once(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make_manifest(UMAZE, **{"tasks": 2, name: wrong})
