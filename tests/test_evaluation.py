import hashlib
import io
import json

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from rich.console import Console

import wm_agents.envs
from wm_agents.datasets import episode_seed, rollout_states
from wm_agents.evaluation import (
    Manifest,
    Recording,
    evaluate,
    floors,
    make_manifest,
    maze_figure,
    print_report,
    save_figure,
    training_figure,
    video,
    write_video,
)
from wm_agents.types import DecisionRecord

UMAZE = "wm/PointMaze-UMaze-v0"


def space_of(obs_type, **options):
    env = gym.make(UMAZE, obs_type=obs_type, **options)
    env.close()
    return env.observation_space


class Chaser:
    """Pushes straight towards the goal, from the observations of ``obs_type``, and checks what it is handed."""

    def __init__(self, obs_type="state", gain=6.0, damping=2.0):
        self.observation_space = space_of(obs_type)
        self.gain, self.damping = gain, damping
        self.seeds, self.rows = [], []

    def set_random_seed(self, seed):
        self.seeds.append(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        rows = len(episode_start)
        self.rows.append(rows)
        assert deterministic
        assert set(observation) == set(self.observation_space.spaces)
        if "pixels" in observation:
            here, there = ball(observation["pixels"]), ball(observation["goal_pixels"])
        else:
            here, there = observation["achieved_goal"], observation["desired_goal"]
        # The memory: the goal and the position seen before. Rows must follow their environment.
        if state is None:
            assert episode_start.all()
            before, goal = here, there
        else:
            before, goal = state
            assert before.shape == (rows, 2)
            np.testing.assert_array_equal(goal[~episode_start], there[~episode_start])
            before = np.where(episode_start[:, None], here, before)
        action = self.gain * (there - here) - 10 * self.damping * (here - before)
        return np.clip(action, -1, 1).astype(np.float32), (here, there)


def ball(images):
    """Return the centre of the red ball, in units of half an image, y upwards."""
    colours = images.astype(np.int32)
    red = (colours[..., 0] > 150) & (colours[..., 1] < 110)
    assert red.any(axis=(1, 2)).all()
    axis = np.linspace(-1, 1, images.shape[1])
    x = (red * axis[None, None, :]).sum(axis=(1, 2)) / red.sum(axis=(1, 2))
    y = (red * -axis[None, :, None]).sum(axis=(1, 2)) / red.sum(axis=(1, 2))
    return np.stack([x, y], axis=1)


@pytest.fixture(scope="module")
def manifest():
    return make_manifest(UMAZE, tasks=10, offset=25, budget=40, seed=3)


@pytest.fixture(scope="module")
def result(manifest):
    return evaluate(Chaser("pixels"), manifest, num_envs=4, seed=1, video=[2, 0], progress=False, name="chaser")


# Manifests


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


# The evaluator


def test_a_competent_agent_succeeds_from_pixels(result):
    assert result.success_rate >= 0.8
    content = result.to_dict()
    assert content["strict"]["success_rate"] <= content["success_rate"]
    assert content["floors"]["noop"] < content["success_rate"]


def test_outcomes_agree_with_the_states_on_the_path(result, manifest):
    env = gym.make(UMAZE, obs_type="state")
    for mode in ("moderate", "strict"):
        for path, goal, step in zip(result.paths, manifest.goals, result.outcomes.steps(mode), strict=True):
            held = env.unwrapped.successes(path, np.broadcast_to(goal, path.shape))[mode]
            assert step == (np.argmax(held) if held.any() else 0)
    for i, path in enumerate(result.paths):
        np.testing.assert_array_equal(path[0], manifest.starts[i])
        assert len(path) - 1 == (result.outcomes.strict[i] or manifest.budget)
    env.close()


@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_outcomes_do_not_depend_on_num_envs(manifest, obs_type):
    runs = [evaluate(Chaser(obs_type), manifest, num_envs=n, progress=False) for n in (1, 3, 16)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].outcomes.moderate, other.outcomes.moderate)
        np.testing.assert_array_equal(runs[0].outcomes.strict, other.outcomes.strict)
        for path, same in zip(runs[0].paths, other.paths, strict=True):
            np.testing.assert_array_equal(path, same)
    assert [run.num_envs for run in runs] == [1, 3, 10]


def test_rows_without_tasks_leave_the_batch(manifest):
    agent = Chaser("state")
    result = evaluate(agent, manifest, num_envs=4, seed=7, progress=False)
    assert agent.rows[0] == 4
    assert agent.rows == sorted(agent.rows, reverse=True)
    assert sum(agent.rows) == sum(len(path) - 1 for path in result.paths)
    assert agent.seeds == [7]
    assert len(result.timings.ms_per_step) == len(agent.rows)
    assert result.to_dict()["ms_per_plan"] == {"median": None, "p95": None, "mean": None}


def test_decision_records_are_counted_per_step_and_per_plan(manifest):
    class Planner(Chaser):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            rows, plans = len(episode_start), int(episode_start.sum())
            self.last_decision = DecisionRecord(2.0 * rows, 6.0 * plans, plans, 900 * plans)
            return super().predict(observation, state, episode_start, deterministic)

    content = evaluate(Planner(), manifest, num_envs=4, progress=False).to_dict()
    assert content["plans"] == 10
    assert content["ms_per_plan"]["median"] == content["ms_per_plan"]["p95"] == 6.0
    assert content["evaluations_per_plan"] == 900
    assert content["ms_per_step"]["encode"]["median"] == 2.0
    assert content["ms_per_step"]["plan"]["median"] == 0.0


def test_sb3_agents_are_evaluated_as_they_are(manifest):
    from stable_baselines3 import SAC

    env = gym.make(UMAZE, obs_type="state")
    agent = SAC("MultiInputPolicy", env, buffer_size=10, policy_kwargs={"net_arch": [8]}, seed=0)
    runs = [evaluate(agent, manifest, num_envs=5, progress=False) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].outcomes.moderate, runs[1].outcomes.moderate)
    assert runs[0].to_dict()["agent"] == "SAC"


def test_image_size_and_obs_type_follow_the_agent(manifest):
    class Looker(Chaser):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert observation["pixels"].shape[1:] == (32, 32, 3)
            assert observation["desired_goal"].shape[1:] == (2,)
            return np.zeros((len(episode_start), 2), np.float32), None

    agent = Looker("pixels_state")
    channels_first = dict(space_of("pixels_state", image_size=32).spaces)
    for key in ("pixels", "goal_pixels"):  # as SB3's VecTransposeImage has them
        channels_first[key] = gym.spaces.Box(0, 255, (3, 32, 32), np.uint8)
    agent.observation_space = gym.spaces.Dict(channels_first)
    short = Manifest(UMAZE, "", 25, 3, 0, manifest.starts[:2], manifest.goals[:2], [])
    assert evaluate(agent, short, progress=False).num_envs == 2


def test_bad_agents_get_a_clear_error(manifest):
    class Bad(Chaser):
        answer = np.zeros((3, 2), np.float32)

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return self.answer, state

    with pytest.raises(ValueError, match=r"shape \(2, 2\).*got shape \(3, 2\)"):
        evaluate(Bad(), manifest, num_envs=2, progress=False)
    Bad.answer = np.full((2, 2), np.nan)
    with pytest.raises(ValueError, match="4 values not finite"):
        evaluate(Bad(), manifest, num_envs=2, progress=False)
    agent = Chaser()
    agent.action_space = gym.spaces.Box(-1, 1, (5,))
    with pytest.raises(ValueError, match=r"\(5,\).*\(2,\).*trained on"):
        evaluate(agent, manifest, progress=False)
    agent.observation_space = gym.spaces.Dict({"image": gym.spaces.Box(0, 1, (2,))})
    with pytest.raises(ValueError, match="no obs_type"):
        evaluate(agent, manifest, progress=False)
    with pytest.raises(ValueError, match="num_envs"):
        evaluate(Chaser(), manifest, num_envs=0)
    with pytest.raises(ValueError, match=r"tasks \[10\].*0 to 9"):
        evaluate(Chaser(), manifest, video=[10])


def test_floors(manifest):
    found = floors(manifest, seed=0)
    assert set(found) == {"random", "noop"}
    again = floors(Manifest.from_json(manifest.to_json()), seed=0)
    np.testing.assert_array_equal(found["random"].moderate, again["random"].moderate)
    at_rest = make_manifest(UMAZE, tasks=20, offset="random", budget=30)
    rested = floors(at_rest)
    assert rested["noop"].success_rate() == 0
    assert (rested["random"].strict >= rested["random"].moderate)[rested["random"].strict > 0].all()

    class Zeros:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(episode_start), 2), np.float32), None

    zeros = evaluate(Zeros(), manifest, progress=False)
    np.testing.assert_array_equal(zeros.outcomes.moderate, found["noop"].moderate)
    np.testing.assert_array_equal(zeros.outcomes.strict, found["noop"].strict)


# Tasks whose strict test does not include the moderate one


def pusht_manifest(budget=8):
    """PushT from rest: 0 strict only, 1 moderate only, 2 both, 3 neither, whatever the agent, which stays."""
    start = np.array([100.0, 100.0, 256.0, 256.0, 0.0, 0, 0, 0, 0, 0])
    goals = np.repeat(start[None], 4, axis=0)
    goals[0, :2] = [400.0, 400.0]  # strict does not ask where the agent is
    goals[1, 2] += 15.0  # the block is 15 px off
    goals[3, 2:4] += 100.0
    return Manifest("wm/PushT-v0", "", 5, budget, 0, np.repeat(start[None], 4, axis=0), goals, [])


class Still:
    """Does nothing, from states."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(episode_start), 2), np.float32), None


@pytest.mark.parametrize("num_envs", [1, 3])
def test_both_tests_are_recorded_independently(num_envs):
    manifest = pusht_manifest()
    result = evaluate(Still(), manifest, num_envs=num_envs, progress=False)
    np.testing.assert_array_equal(result.outcomes.moderate, [0, 1, 1, 0])
    np.testing.assert_array_equal(
        result.outcomes.strict, [2, 0, 2, 0]
    )  # the third state in a row, the start's included
    assert [len(path) - 1 for path in result.paths] == [8, 8, 2, 8]
    np.testing.assert_array_equal(result.floors["noop"].moderate, result.outcomes.moderate)
    np.testing.assert_array_equal(result.floors["noop"].strict, result.outcomes.strict)


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


@pytest.mark.parametrize("env_id", ["wm/PushT-v0", "wm/Reacher-v0", "wm/Cube-Single-v0"])
def test_every_task_is_evaluated_and_filmed(env_id, tmp_path):
    class Restless:
        def __init__(self):
            self.space = gym.make(env_id, obs_type="state").action_space
            self.space.seed(0)

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert observation["pixels"].shape[1:] == (64, 64, 3)
            return np.stack([self.space.sample() for _ in episode_start]), None

    manifest = make_manifest(env_id, tasks=3, offset="random", budget=4)
    result = evaluate(Restless(), manifest, num_envs=2, video=2, progress=False)
    content = result.to_dict()
    assert content["env_id"] == env_id
    assert set(content["floors"]) == {"random", "noop"}
    console = Console(file=io.StringIO(), width=140)
    print_report([result], console)
    assert content["task"] in console.file.getvalue()
    write_video(tmp_path / "tasks.gif", result.recordings, fps=10)
    assert iio.imread(tmp_path / "tasks.gif").shape[1:] == (268, 528, 3)
    with gym.make(env_id) as env, pytest.raises(ValueError, match=r"maze_figure.*has none.*write_video"):
        maze_figure(env, result.paths, manifest.starts, manifest.goals, result.outcomes.moderate > 0)


# Reports


def test_json_has_the_promised_keys_and_no_nan(result, manifest, tmp_path):
    object.__setattr__(result, "provenance", {"loss": float("nan"), "seed": np.int64(3), "path": tmp_path})
    path = tmp_path / "result.json"
    result.save(path)

    def refuse(name):
        raise AssertionError(name)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["provenance"] == {"loss": None, "seed": 3, "path": str(tmp_path)}
    assert content["agent"] == "chaser"
    assert content["task"] == "pointmaze-umaze"
    assert content["manifest_sha256"] == manifest.sha256
    assert (content["tasks"], content["offset"], content["budget"], content["seed"]) == (10, 25, 40, 3)
    low, high = content["ci95"]
    assert 0 <= low <= content["success_rate"] <= high <= 1
    assert set(content["floors"]) == {"random", "noop"}
    assert content["steps_to_success"]["median"] > 0
    for key in ("ms_per_step", "ms_per_plan"):
        assert {"median", "p95"} <= set(content[key])
    assert content["evaluations_per_plan"] is None
    assert content["version"] == wm_agents.version.__version__
    assert content["num_envs"] == 4
    assert content["threads"] >= 1
    solved = [step is not None for step in content["outcomes"]["moderate"]]
    assert np.mean(solved) == content["success_rate"]


def test_report_shows_agents_floors_and_paired_tests(result, manifest):
    other = evaluate(Chaser(gain=-1.0), manifest, progress=False, name="runaway")
    console = Console(file=io.StringIO(), width=140)
    print_report([result, other], console)
    text = console.file.getvalue()
    for word in ("chaser", "runaway", "random", "noop", "10 tasks", "offset 25", "McNemar", manifest.sha256[:12]):
        assert word in text
    assert f"{100 * result.success_rate:.1f}% [" in text
    with pytest.raises(ValueError, match="no results"):
        print_report([], console)


# Videos


def test_recordings_hold_what_the_agent_saw(result, manifest):
    assert [recording.task for recording in result.recordings] == [2, 0]
    for recording in result.recordings:
        assert len(recording.frames) == len(result.paths[recording.task])
        assert recording.success_step == (result.outcomes.moderate[recording.task] or None)
    env = gym.make(UMAZE)
    first = result.recordings[1]
    np.testing.assert_array_equal(first.goal, env.unwrapped.render_state(manifest.goals[0]))
    np.testing.assert_array_equal(first.frames[-1], env.unwrapped.render_state(result.paths[0][-1]))
    env.close()


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".MP4"])
def test_videos_can_be_read_back(result, tmp_path, suffix):
    path = tmp_path / f"tasks{suffix}"
    write_video(path, result.recordings, fps=10)
    frames = iio.imread(path)
    assert frames.shape[1:] == (268, 528, 3)
    expected = sum(len(recording.frames) + 8 for recording in result.recordings)  # the last one held for 0.8 s
    if suffix == ".gif":  # equal frames in a row are stored once, and shown for longer
        durations = [iio.immeta(path, index=i)["duration"] for i in range(len(frames))]
        assert sum(durations) == pytest.approx(100 * expected)
    else:
        assert len(frames) == expected
        assert iio.immeta(path)["fps"] == 10
        frame, goal = frames[0, 6:262, 6:262], frames[0, 6:262, 266:522]
        recording = result.recordings[0]
        for image, original in ((frame, recording.frames[0]), (goal, recording.goal)):
            assert np.abs(image[1::4, 1::4].astype(int) - original).mean() < 12  # H.264 is lossy
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_state_agents_are_filmed_too_and_odd_sizes_work(manifest, tmp_path):
    recording = evaluate(Chaser("state"), manifest, video=1, progress=False).recordings[0]
    assert recording.frames[0].shape == (64, 64, 3)
    assert recording.frames[0].std() > 0
    odd = Recording(0, np.zeros((33, 35, 3), np.uint8), [np.zeros((33, 35, 3), np.uint8)] * 3)
    write_video(tmp_path / "odd.mp4", [odd])
    assert iio.imread(tmp_path / "odd.mp4").shape[1] % 2 == 0


def test_video_errors_leave_nothing_behind(result, tmp_path):
    with pytest.raises(ValueError, match=r"'.avi'.*\.mp4 or \.gif"):
        write_video(tmp_path / "tasks.avi", result.recordings)
    with pytest.raises(ValueError, match="video=1"):
        write_video(tmp_path / "tasks.mp4", [])
    path = tmp_path / "tasks.mp4"
    path.write_bytes(b"before")
    broken = Recording(0, np.zeros((64, 64, 3), np.uint8), [np.zeros((64, 64, 3), np.uint8), np.zeros((1, 1, 7))])
    with pytest.raises(ValueError, match="broadcast"):
        write_video(path, [broken])
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.mp4"]


def test_a_cut_short_video_is_an_error(result, tmp_path, monkeypatch):
    def cut_short(path):  # what a full disk leaves: the encoder is gone, its file has no end
        path.write_bytes(path.read_bytes()[:500])
        return counted(path)

    counted = video._frames_in
    monkeypatch.setattr(video, "_frames_in", cut_short)
    with pytest.raises(OSError, match="full disk"):
        write_video(tmp_path / "tasks.mp4", result.recordings)
    assert list(tmp_path.iterdir()) == []


# Figures


def test_maze_figure(result, manifest, tmp_path):
    env = gym.make(UMAZE)
    solved = result.outcomes.moderate > 0
    figure = maze_figure(env, result.paths, manifest.starts, manifest.goals, solved, title="UMaze")
    (axes,) = figure.axes
    assert len(axes.lines) == 3 * len(manifest)
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(np.stack([x, y], axis=1), result.paths[0][:, :2])
    save_figure(figure, tmp_path / "maze.png")
    assert iio.imread(tmp_path / "maze.png").std() > 0
    with pytest.raises(ValueError, match=r"\.png"):
        save_figure(figure, tmp_path / "maze.docx")
    with pytest.raises(ValueError, match="one path, start"):
        maze_figure(env, result.paths[:3], manifest.starts, manifest.goals, solved)
    env.close()


def test_training_figure(tmp_path):
    curve = [(step, 1 / (1 + step)) for step in range(50)]
    history = {"train/loss": curve, "validation/loss": [*curve, (60, float("nan"))], "probe_r2": [(0, 0.5)]}
    figure = training_figure(history, title="training")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "probe r2"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    save_figure(figure, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 0
    with pytest.raises(ValueError, match="no finite"):
        training_figure({"loss": [(0, float("inf"))]})


def test_executed_actions_are_kept_and_known_floors_are_not_measured_again(result, manifest, monkeypatch):
    for path, actions in zip(result.paths, result.actions, strict=True):
        assert actions.shape == (len(path) - 1, 2)
        assert np.abs(actions).max() <= 1
    expected = [np.square(np.diff(actions, n=3, axis=0)).mean() for actions in result.actions if len(actions) > 3]
    assert result.to_dict()["jerk"] == pytest.approx(np.mean(expected))
    monkeypatch.setattr("wm_agents.evaluation.evaluator.floors", lambda *_: pytest.fail("measured again"))
    again = evaluate(Chaser("state"), manifest, progress=False, known_floors=result.floors)
    assert again.floors is result.floors
