"""Small datasets in the layouts of LeRobot, robomimic and folders of videos, as their own tools write them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import imageio.v2 as imageio
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

LENGTHS = (12, 7, 9)  # frames of the episodes
CAMERA = "observation.images.top"
FPS = 10


def frames(length: int, first: int = 0, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Frames that a lossy video cannot confuse: frame i of the dataset is gray of its own level."""
    levels = (40 + 5 * (first + np.arange(length))).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (length, *shape, 3)).copy()


def levels(pixels: np.ndarray) -> np.ndarray:
    """The numbers of the frames that images show."""
    return np.rint((pixels.astype(float).mean(axis=(-3, -2, -1)) - 40) / 5).astype(int)


def write_video(path: Path, images: np.ndarray, fps: float = FPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with imageio.get_writer(path, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1, quality=9) as writer:
        for image in images:
            writer.append_data(image)
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({name: pa.array(list(values)) for name, values in columns.items()}), path)
    return path


def actions(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (length, 3)).astype(np.float32)


def rows(episode: int, first: int, length: int) -> dict[str, Any]:
    """The columns that every LeRobot table has."""
    return {
        "action": actions(length, episode),
        "observation.state": np.arange(2.0 * length, dtype=np.float32).reshape(-1, 2),
        "timestamp": (np.arange(length) / FPS).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": first + np.arange(length),
        "task_index": np.zeros(length, int),
    }


def png(image: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def info(version: str, dtype: str = "video", **paths: Any) -> dict[str, Any]:
    features: dict[str, Any] = {
        "action": {"dtype": "float32", "shape": [3], "names": ["x", "y", "gripper"]},
        "observation.state": {"dtype": "float32", "shape": [2], "names": None},
        CAMERA: {"dtype": dtype, "shape": [48, 64, 3], "names": ["height", "width", "channel"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    return {"codebase_version": version, "fps": FPS, "features": features, "chunks_size": 1000, **paths}


def write_lerobot_v2(root: Path, dtype: str = "video", lengths: tuple[int, ...] = LENGTHS) -> Path:
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v2.1", dtype, **paths)), encoding="utf-8")
    lines = [json.dumps({"episode_index": i, "tasks": ["push"], "length": n}) for i, n in enumerate(lengths)]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for episode, length in enumerate(lengths):
        first = sum(lengths[:episode])
        columns = rows(episode, first, length)
        if dtype == "video":
            write_video(root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4", frames(length, first))
        else:
            columns[CAMERA] = [png(image) for image in frames(length, first)]
        write_parquet(root / f"data/chunk-000/episode_{episode:06d}.parquet", columns)
    return root


def write_lerobot_v3(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Two episodes in the first table and video, the others in the second."""
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v3.0", **paths)), encoding="utf-8")
    found: dict[str, list[Any]] = {}
    begins = np.cumsum([0, *lengths])
    for file, episodes in enumerate((range(2), range(2, len(lengths)))):
        parts = [rows(episode, int(begins[episode]), lengths[episode]) for episode in episodes]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        write_parquet(root / f"data/chunk-000/file-{file:03d}.parquet", columns)
        first, last = int(begins[episodes[0]]), int(begins[episodes[-1] + 1])
        write_video(root / f"videos/{CAMERA}/chunk-000/file-{file:03d}.mp4", frames(last - first, first))
        for episode in episodes:
            row = {
                "episode_index": episode,
                "tasks": ["push"],
                "length": lengths[episode],
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": int(begins[episode]),
                "dataset_to_index": int(begins[episode + 1]),
                f"videos/{CAMERA}/chunk_index": 0,
                f"videos/{CAMERA}/file_index": file,
                f"videos/{CAMERA}/from_timestamp": (int(begins[episode]) - first) / FPS,
                f"videos/{CAMERA}/to_timestamp": (int(begins[episode + 1]) - first) / FPS,
            }
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    write_parquet(root / "meta/episodes/chunk-000/file-000.parquet", found)
    return root


def write_robomimic(path: Path, lengths: tuple[int, ...] = (*LENGTHS, *[3] * 8)) -> Path:
    """More than ten demonstrations: ``demo_10`` must not come before ``demo_2``."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for episode, length in enumerate(lengths):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = length
            demo["actions"] = actions(length, episode)
            demo["states"] = np.arange(4.0 * length).reshape(-1, 4)
            demo["dones"], demo["rewards"] = np.zeros(length), np.zeros(length)
            demo["obs/agentview_image"] = np.full((length, 24, 24, 3), episode, np.uint8)
            demo["obs/robot0_eef_pos"] = np.zeros((length, 3))
    return path


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    lines = [",".join(columns), *(",".join(str(value) for value in row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_videos(root: Path, names: tuple[str, ...] = ("a", "b", "c"), lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Videos, each with a csv of its own."""
    for episode, (name, length) in enumerate(zip(names, lengths, strict=True)):
        write_video(root / f"{name}.mp4", frames(length, sum(lengths[:episode])))
        taken = actions(length, episode).astype(float)
        columns = {"time": np.arange(length) / FPS, **{f"action_{i}": taken[:, i] for i in range(3)}}
        write_csv(root / f"{name}.csv", columns)
    return root
