"""Videos: they show what the agent saw, can be read back, and are whole or not there."""

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from chaser import UMAZE, Chaser

import wm_agents
from wm_agents.evaluation import Recording, evaluate, video, write_video, write_video_grid
from wm_agents.models import Viewer, ViewerConfig

pytest_plugins = ["chaser"]


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


def test_a_grid_has_agents_in_rows_and_tasks_in_columns(result, tmp_path):
    one, other = sorted(result.recordings, key=lambda recording: recording.task)
    lost = [Recording(of.task, of.goal, of.frames[:3]) for of in (one, other)]
    path = tmp_path / "grid.mp4"
    write_video_grid(path, {"chaser": [one, other], "loser": lost}, fps=10)
    frames = iio.imread(path)
    side = 128 + 2 * video.BORDER
    assert frames.shape == (max(len(one.frames), len(other.frames)) + 8, 3 * side, video.LABEL + 2 * side, 3)
    rows, columns = (
        [side * i + video.BORDER for i in range(3)],
        [video.LABEL + side * i + video.BORDER for i in range(2)],
    )

    def shown(step, row, column):
        return frames[step, rows[row] : rows[row] + 128, columns[column] : columns[column] + 128]

    for column, recording in enumerate((one, other)):
        for step, row, original in ((0, 0, recording.goal), (1, 1, recording.frames[1]), (-1, 2, recording.frames[2])):
            assert np.abs(shown(step, row, column)[1::2, 1::2].astype(int) - original).mean() < 12
    border = frames[-1, [side + 3, 2 * side + 3], video.LABEL + side // 2].astype(int)
    assert np.abs(border - [video.SUCCESS, video.FAILURE]).max() < 40
    with pytest.raises(ValueError, match="the same tasks in the same order"):
        write_video_grid(path, {"chaser": [one, other], "loser": lost[::-1]})
    with pytest.raises(ValueError, match="nothing to write"):
        write_video_grid(path, {})


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


def test_plans_are_shown_below_the_images():
    grey = np.full((64, 64, 3), 90, np.uint8)
    plans = [np.full((7, 64, 64, 3), 250, np.uint8), np.full((2, 64, 64, 3), 250, np.uint8)]
    recording = Recording(0, grey, [grey] * 3, plans=plans)
    frames = list(video.compose(recording))
    assert len({frame.shape for frame in frames}) == 1
    height, width, _ = frames[0].shape
    assert height % 2 == width % 2 == 0
    assert height > 268
    white = [(frame[268:] == 250).all(-1).sum() for frame in frames]
    assert white[0] / white[1] == 7 / 2
    assert white[2] == white[1], "the last frame has no action, and no plan of its own"


def test_imagined_plans_need_a_video_a_plan_and_a_viewer(manifest):
    def refused(agent, said, **options):
        with pytest.raises(ValueError, match=said):
            evaluate(agent, manifest, imagined=True, progress=False, **options)

    cem = wm_agents.load("pointmaze-umaze/cem", device="cpu", iterations=1, samples=8, elites=2, horizon=3)
    refused(cem, "add video=1")
    refused(cem, r"imagined=True needs the head 'viewer'", video=1)
    refused(wm_agents.load("pointmaze-umaze/gc-idm", device="cpu"), "of an agent that searches, such as cem", video=1)
    viewer = Viewer(ViewerConfig(latent_size=cem.world_model.spec.feature_size, width=2)).eval()
    viewer.stamp(cem.world_model)
    cem.use(viewer)
    recorded, plain = (evaluate(cem, manifest, imagined=on, video=[1], progress=False) for on in (True, False))
    recording = recorded.recordings[0]
    assert len(recording.plans) == len(recording.frames) - 1
    assert {plan.shape for plan in recording.plans} == {(3, 64, 64, 3)}
    assert plain.recordings[0].plans == []
    np.testing.assert_array_equal(recorded.actions[1], plain.actions[1])
