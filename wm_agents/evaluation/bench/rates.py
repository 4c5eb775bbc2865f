"""How fast planning is, compared with what the machine can do: matrix products, and many environments in one call."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from wm_agents import planning
from wm_agents.models import ActionStatistics, LeWM, LeWMConfig

Key = TypeVar("Key", bound=Hashable)

PRODUCT_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
"""Square float32 products whose best rate stands for what the machine can do, by kind of device."""

KINDS = {
    "matrix products": {"mm", "addmm", "bmm", "baddbmm"},
    "activations": {"gelu", "silu", "relu", "relu_", "clamp_min", "clamp_min_", "_softmax"},
    "normalisation": {"native_layer_norm", "native_batch_norm"},
    "copies and memory": {"copy_", "cat", "clone", "contiguous", "empty", "empty_strided", "fill_", "zero_", "stack"},
    "arithmetic": {"add", "add_", "sub", "mul", "mul_", "div", "div_", "sum", "mean", "pow", "sqrt", "neg"},
    "sampling and selection": {"normal_", "topk", "gather", "min", "where", "clamp", "isfinite", "abs", "eq", "ne"},
}
"""Kinds of torch operations, by their names; all others are "dispatch and the rest"."""


def in_turns(calls: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, list[float]]:
    """Make every call once per round, in turns, so that other load on the machine affects all of them equally.

    Args:
        calls: By name; each returns the milliseconds that it took.
        rounds: Number of rounds that count, after one of warm-up.
    """
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            times[name].append(call())
    return {name: taken[1:] for name, taken in times.items()}


def timed(call: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Return a function that makes the call, waits for the device, and returns the milliseconds taken."""

    def run() -> float:
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        return 1000 * (time.perf_counter() - started)

    return run


def spread(times: list[float]) -> dict[str, float]:
    """Return the ``best`` and the ``median`` of milliseconds: how far apart they lie shows how busy the machine was."""
    return {"best": min(times), "median": statistics.median(times)}


def batch_ratio(
    predictor: str = "mlp",
    *,
    envs: int = 16,
    iterations: int = 10,
    rounds: int = 10,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Compare the time of CEM plans (300 samples, 5 blocks) for many environments in one call and in single calls.

    Single calls are made in a row; best and median are those of whole rows.

    Args:
        predictor: Of a world model with random weights and otherwise default shapes.
        envs: N.
        iterations: Of CEM.
        rounds: Rounds of measurement, in turns.
        device: Where to plan.

    Returns:
        ``one_call_ms`` and ``single_calls_ms`` (each with best and median, N environments), ``ratio`` of the bests,
        ``threads`` and the arguments.
    """
    device = torch.device(device)
    plan = _planning(predictor, envs, iterations, device)

    def single_calls() -> None:
        for row in range(envs):
            plan(slice(row, row + 1))

    calls = {"one_call_ms": lambda: plan(slice(0, envs)), "single_calls_ms": single_calls}
    times = {
        name: spread(taken)
        for name, taken in in_turns({k: timed(call, device) for k, call in calls.items()}, rounds).items()
    }
    ratio = times["one_call_ms"]["best"] / times["single_calls_ms"]["best"]
    return {
        "predictor": predictor,
        "envs": envs,
        "iterations": iterations,
        **times,
        "ratio": ratio,
        "threads": torch.get_num_threads(),
    }


def plan_rate(
    predictor: str = "transformer",
    *,
    samples: int = 300,
    iterations: int = 30,
    horizon: int = 5,
    rounds: int = 3,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Compare the arithmetic rate of a CEM plan with that of plain matrix products, measured in turns with it.

    Only multiplications and additions inside executed matrix products count as work.

    Args:
        predictor: Of a world model with random weights and otherwise default shapes; history is full.
        samples: Of CEM.
        iterations: Of CEM.
        horizon: H.
        rounds: Rounds of measurement; each times one plan and :data:`PRODUCT_SIZES`, several times.
        device: Where to plan.

    Returns:
        ``gflop`` of a plan, ``ms`` (best and median), ``gflops`` and ``product_gflops`` (rates, of the bests),
        ``share`` (their ratio), ``time_shares`` by kind of operation, ``threads`` and the arguments.
    """
    device = torch.device(device)
    plan = _planning(predictor, 1, iterations, device, samples=samples, horizon=horizon)
    with FlopCounterMode(display=False) as counter:
        plan(slice(0, 1))
    gflop = counter.get_total_flops() / 1e9
    calls = {("plan", 0, 0): timed(lambda: plan(slice(0, 1)), device)}
    for size in PRODUCT_SIZES.get(device.type, PRODUCT_SIZES["cuda"]):
        square = torch.randn(size, size, device=device)
        for turn in range(5):  # short, so several: one undisturbed turn is enough
            calls["product", size, turn] = timed(functools.partial(torch.mm, square, square), device)
    times = in_turns(calls, rounds)
    ms = spread(times.pop(("plan", 0, 0)))
    product = max(2 * size**3 / min(taken) / 1e6 for (_, size, _), taken in times.items())
    rate = 1000 * gflop / ms["best"]
    shares = time_shares(_planning(predictor, 1, min(3, iterations), device, samples=samples, horizon=horizon), device)
    return {
        "predictor": predictor,
        "samples": samples,
        "iterations": iterations,
        "horizon": horizon,
        "gflop": gflop,
        "ms": ms,
        "gflops": rate,
        "product_gflops": product,
        "share": rate / product,
        "time_shares": shares,
        "threads": torch.get_num_threads(),
    }


def time_shares(plan: Callable[[slice], object], device: torch.device) -> dict[str, float]:
    """Return which share of the time of ``plan(slice(0, 1))`` goes to each kind of operation; they sum to 1."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler writes a line for each start and stop else
    activities = [torch.profiler.ProfilerActivity.CPU]
    attribute = "self_cpu_time_total"
    if device.type == "cuda":
        activities, attribute = [torch.profiler.ProfilerActivity.CUDA], "self_device_time_total"
    plan(slice(0, 1))
    with torch.profiler.profile(activities=activities) as profile:
        plan(slice(0, 1))
    spent = dict.fromkeys([*KINDS, "dispatch and the rest"], 0.0)
    for event in profile.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name in names), "dispatch and the rest")
        spent[kind] += getattr(event, attribute)
    total = sum(spent.values()) or 1.0
    return {kind: value / total for kind, value in spent.items()}


def _planning(
    predictor: str, envs: int, iterations: int, device: torch.device, samples: int = 300, horizon: int = 5
) -> Callable[[slice], object]:
    """Return a function that plans with CEM for a slice of ``envs`` environments, over random weights and latents."""
    generator = torch.Generator().manual_seed(0)
    config = LeWMConfig(predictor=predictor)
    ones = np.ones(config.action_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LeWM(config, ActionStatistics(-ones, ones, 0 * ones, ones)).eval().requires_grad_(False)
    model = model.to(device)
    z = torch.randn(envs, config.history, config.latent_size, generator=generator).to(device)
    past = torch.randn(envs, config.history - 1, config.block_size, generator=generator).to(device)
    goal = torch.randn(envs, config.latent_size, generator=generator).to(device)
    state = model.remember(z, past)
    planner = planning.make(
        "cem", horizon=horizon, samples=samples, elites=max(1, samples // 10), iterations=iterations
    )
    objective = planning.make_objective("summed")
    low, high = model.block_bounds()

    def plan(rows: slice) -> object:
        now = {name: values[rows] for name, values in state.items()}

        def cost(actions: torch.Tensor) -> torch.Tensor:
            return objective(model.imagine(now, actions), goal[rows], actions)

        seeded = torch.Generator(device=device).manual_seed(0)
        with torch.no_grad():
            return planner.plan(cost, low=low, high=high, batch=len(z[rows]), generator=seeded)

    return plan


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
