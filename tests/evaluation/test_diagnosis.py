"""The diagnosis: world models whose faults are known, and numbers whose values are."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from every_learner import tiny_world_model
from torch import nn

from wm_agents import MPC, cli
from wm_agents.agents import WorldModelAgent
from wm_agents.datasets import from_episodes
from wm_agents.evaluation import Diagnosis, diagnose
from wm_agents.evaluation.diagnosis import statistics
from wm_agents.evaluation.diagnosis.ranking import FILMED
from wm_agents.evaluation.diagnosis.verdict import judge
from wm_agents.models import ActionStatistics, State, Viewer, ViewerConfig, WorldModel
from wm_agents.registry import WORLD_MODELS
from wm_agents.training import probe
from wm_agents.types import LatentBatch

pytest_plugins = ["trained"]
FEW: dict[str, Any] = {"validation_fraction": 0.5, "pairs": 4, "candidates": 20, "progress": False}
CEM: dict[str, Any] = {"planner": "cem", "horizon": 3, "samples": 8, "elites": 3, "iterations": 2, "device": "cpu"}


@dataclasses.dataclass(frozen=True)
class SeesConfig:
    """``fault`` is what is wrong with it."""

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    history: int = 1
    fault: str = ""


class Sees(WorldModel):
    """Its latent is where the red ball is in the image; it imagines that the ball goes where it is pushed."""

    Config = SeesConfig

    def __init__(self, config: SeesConfig, actions: ActionStatistics) -> None:
        super().__init__(config, actions, (2,))
        self.encoder = nn.Identity()

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        ball = ((pixels[..., 0].float() - pixels[..., 2].float()) > 60).float() + 1e-6
        at = torch.linspace(-3, 3, pixels.shape[1])
        z = torch.stack([(ball * at).sum((1, 2)), (ball * at[:, None]).sum((1, 2))], -1) / ball.sum((1, 2))[:, None]
        if self.config.fault == "collapsed":
            return 1e-3 * z
        if self.config.fault == "folded":  # x is there, y is not
            return torch.stack([z[:, 0], z[:, 0] ** 2], -1)
        if self.config.fault == "swirled":  # both are there, but not along straight lines
            turned = torch.polar(z.norm(dim=-1), torch.atan2(z[:, 1], z[:, 0]) + 1.5 * z.norm(dim=-1))
            return torch.view_as_real(turned)
        return z

    def initial(self, n: int) -> State:
        return {"z": self.action_mean.new_zeros(n, 2)}

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        return {"z": latent}

    def advance(self, state: State, block: torch.Tensor) -> State:
        raw = self.denormalize(block).unflatten(-1, (5, 2)).mean(-2) * torch.tensor([1.0, -1.0])
        sign = {"wrong way": -1.0, "still": 0.0}.get(self.config.fault, 1.0)
        return {"z": state["z"] + sign * 0.3 * raw}

    def latent(self, state: State) -> torch.Tensor:
        return state["z"]

    def previous(self, state: State) -> torch.Tensor:
        return state["z"]

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WORLD_MODELS, "_entries", {**WORLD_MODELS._entries, "sees": Sees})
    monkeypatch.setattr(probe, "EPOCHS", 10)  # enough for two variables of a maze


def agent_with(data: Any, fault: str = "", **options: Any) -> WorldModelAgent:
    mean, std = data.action_mean_std()
    model = Sees(SeesConfig(fault=fault), ActionStatistics(data.action_low, data.action_high, mean, std)).eval()
    return MPC(model, **{**CEM, **options})


def topics(found: Diagnosis) -> dict[str, str]:
    return {finding.topic: finding.kind for finding in found.findings}


# Numbers.


def test_dimensions_of_known_clouds() -> None:
    rng = np.random.default_rng(0)
    ball, line = rng.normal(size=(4000, 8)), np.outer(rng.normal(size=500), np.arange(5))
    assert statistics.effective_dimension(statistics.eigenvalues(ball)) == pytest.approx(8, abs=0.1)
    assert statistics.effective_dimension(statistics.eigenvalues(line)) == pytest.approx(1)
    assert statistics.effective_dimension(statistics.eigenvalues(np.ones((10, 3)))) == 0
    few, padded = ball[:9], np.pad(ball[:9], ((0, 0), (0, 30)))
    np.testing.assert_allclose(statistics.eigenvalues(padded)[:8], statistics.eigenvalues(few), atol=1e-9)
    assert statistics.eigenvalues(padded).shape == (38,)


def test_normality_and_uniformity_of_known_clouds() -> None:
    def rng() -> np.random.Generator:
        return np.random.default_rng(1)

    ball = np.random.default_rng(0).normal(size=(2000, 4))
    assert statistics.normality(ball, rng()) == pytest.approx(1, abs=0.5)
    assert statistics.normality(7 * ball + 3, rng()) == pytest.approx(statistics.normality(ball, rng()), rel=0.01)
    assert statistics.normality(np.sign(ball), rng()) > 20
    assert statistics.uniformity(np.ones((100, 4)), rng()) == 0
    assert statistics.uniformity(ball, rng()) < statistics.uniformity(ball + 2, rng()) < -0.1


def test_straightness_of_known_paths() -> None:
    line = np.arange(5.0)[None, :, None] * np.array([1.0, 2.0])
    there_and_back = np.array([0.0, 1, 0, 1])[None, :, None]
    assert statistics.straightness(line) == pytest.approx(1)
    assert statistics.straightness(there_and_back) == pytest.approx(-1)
    assert statistics.straightness(np.zeros((2, 3, 4))) == 0


def test_rank_correlation_is_unknown_where_nothing_varies() -> None:
    assert statistics.rank_correlation(np.arange(5), np.arange(5) ** 3) == pytest.approx(1)
    assert statistics.rank_correlation(np.arange(5), np.ones(5)) is None


# World models with known faults.


def test_a_world_model_that_sees_and_predicts(small_dataset: Any) -> None:
    found = diagnose(agent_with(small_dataset), small_dataset, pictures=False, **FEW)
    numbers = found.to_dict()
    assert numbers["left_out"] == []
    assert numbers["ranking"]["plan_real_frames"] > 0.95, "the latent is the true state"
    assert found.score == numbers["ranking"]["plan_real"] > 0.5
    assert numbers["ranking"]["better_than_chosen"] < 0.3
    assert {name: row["linear"] > 0.99 for name, row in numbers["probes"].items() if name in "xy"} == {"x": 1, "y": 1}
    assert 1.3 < numbers["latent"]["effective_dimension"] <= 2
    assert numbers["over_truth"]["spearman"] > 0.95
    assert topics(found)["State"] == "good"
    assert "x, y can be read" in " ".join(found.verdict)
    json.dumps(numbers, allow_nan=False)


@pytest.mark.parametrize(
    ("fault", "topic", "said"),
    [
        ("collapsed", "Collapsed", "The latents have collapsed"),
        ("folded", "State", r"x can be read from the latents; y \(R2 0\.\d\d\) (missing|blurred)"),
        ("wrong way", "Predictor", "The predictor is the limit, not the latent"),
        ("wrong way", "Prediction", 'no better than "nothing moves"'),
        ("still", "Flat cost", "hardly depends on the plan"),
    ],
)
def test_faults_are_named(small_dataset: Any, fault: str, topic: str, said: str) -> None:
    found = diagnose(agent_with(small_dataset, fault), small_dataset, pictures=False, **FEW)
    assert re.search(said, " ".join(found.verdict))
    assert topics(found)[topic] in ("bad", "warning")
    assert found.findings[0].kind == "bad"
    good = diagnose(agent_with(small_dataset), small_dataset, pictures=False, **FEW)
    if fault == "wrong way":
        assert found.score is not None
        assert good.score is not None
        assert found.score < 0 < good.score


def test_what_is_there_but_not_linearly_is_named(small_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "EPOCHS", 60)
    found = diagnose(agent_with(small_dataset, "swirled"), small_dataset, pictures=False, **FEW)
    assert re.search(r"The latents hold x \(R2 0\.\d\d linear, 0\.\d\d MLP\)", " ".join(found.verdict))
    assert topics(found)["Nonlinear"] == "warning"


def test_words_about_angles(small_dataset: Any) -> None:
    numbers = diagnose(agent_with(small_dataset), small_dataset, pictures=False, **FEW).to_dict()

    def said(**r2: tuple[float, float]) -> str:
        probes = {name: {"linear": one, "mlp": other, "fit": max(one, other)} for name, (one, other) in r2.items()}
        return " ".join(finding.text for finding in judge({**numbers, "probes": probes}))

    missing = said(x=(0.99, 0.98), angle_sin=(0.1, 0.2), angle_cos=(0.9, 0.95), v_x=(0, 0))
    assert "x can be read from the latents; angle (R2 0.20) missing." in missing
    assert "linearly" not in missing
    bent = said(x=(0.99, 0.98), angle_sin=(0.3, 0.95), angle_cos=(0.93, 0.92))
    assert "x, angle can be read from the latents: the whole state that one frame can show." in bent
    assert "The latents hold angle (R2 0.30 linear, 0.92 MLP), but not linearly" in bent
    assert "one_sin can be read" in said(one_sin=(0.95, 0.95)), "no angle without its cosine"


def test_words_about_the_range_of_the_true_distance(small_dataset: Any) -> None:
    numbers = diagnose(agent_with(small_dataset), small_dataset, pictures=False, **FEW).to_dict()
    time = {**numbers["over_time"], "steps": [1, 50], "grows_until": 50, "saturated_at": None}
    truth = {"unit": "m", "grows_until": 1.0, "farthest": 3.0}

    def distance(**changed: Any) -> Any:
        found = judge({**numbers, "over_time": time, "over_truth": truth, **changed})
        return next(finding for finding in found if finding.topic == "Distance")

    assert "Against the true distance (m), it grows only up to 1 of 3." in distance().text
    assert distance().kind == "warning"
    assert distance(ranking={**numbers["ranking"], "objective": "temporal-distance"}).kind == "good"
    assert distance(over_truth={**truth, "grows_until": 2.0}).kind == "good"
    assert distance(over_truth=None).kind == "good"


def test_the_same_seed_gives_the_same_numbers(small_dataset: Any) -> None:
    agent = agent_with(small_dataset)
    first, again, other = (diagnose(agent, small_dataset, pictures=False, seed=s, **FEW).to_dict() for s in (1, 1, 2))
    assert first == again
    assert first["ranking"] != other["ranking"]
    assert first["probes"]["x"]["mlp"] != other["probes"]["x"]["mlp"]


def test_agents_that_do_not_search_are_ranked_by_the_summed_distance(small_dataset: Any) -> None:
    agent = agent_with(small_dataset)
    searching = diagnose(agent, small_dataset, pictures=False, **FEW).numbers["ranking"]
    assert searching["objective"] == "summed"
    assert searching["steps"] == 3 * 5
    agent.policy.controller = SimpleNamespace()  # type: ignore[assignment]
    assert diagnose(agent, small_dataset, pictures=False, **FEW).numbers["ranking"]["steps"] == 5 * 5


def test_true_costs_are_those_of_the_same_objective(small_dataset: Any) -> None:
    plain = diagnose(agent_with(small_dataset, objective="terminal"), small_dataset, pictures=False, **FEW)
    assert plain.numbers["ranking"]["objective"] == "terminal"
    own = agent_with(small_dataset, objective={"summed": 1.0, "control": 0.1})
    numbers = diagnose(own, small_dataset, pictures=False, **FEW).numbers["ranking"]
    assert numbers["objective"] == "the agent's own"
    assert numbers["plan_real"] is not None


# What cannot be had.


def bare(data: Any) -> Any:
    return dataclasses.replace(data, states=np.zeros((len(data.states), 0)), state_names=())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (bare, "has no simulator states"),
        (lambda data: dataclasses.replace(data, env_id=""), "does not say of which environment it is"),
        (lambda data: dataclasses.replace(data, env_id="mine/Nowhere-v0"), "mine/Nowhere-v0 cannot be opened"),
        (lambda data: dataclasses.replace(data, env_id="wm/PushT-v0"), "are not those of wm/PushT-v0"),
        (lambda data: dataclasses.replace(data, states=data.states + 9), r"refuses states of .* into a wall"),
    ],
)
def test_plans_that_cannot_be_replayed_are_left_out(small_dataset: Any, change: Any, said: str) -> None:
    data = change(small_dataset)
    found = diagnose(agent_with(data), data, pictures=False, **FEW)
    assert any(re.search(said, sentence) for sentence in found.verdict)
    assert found.score is None
    assert "Planning cost" not in topics(found)
    assert 0 <= found.numbers["ranking"]["recorded_rank"] <= 1, "what needs no replay is there"
    assert bool(found.numbers["probes"]) == bool(data.state_names)


def test_states_that_are_nan_are_left_out(small_dataset: Any) -> None:
    data = dataclasses.replace(small_dataset, states=small_dataset.states.copy())
    data.states[::7, data.state_names.index("y")] = np.nan
    found = diagnose(agent_with(data), data, pictures=False, **FEW)
    assert found.numbers["probes"]["x"]["mlp"] > 0.9
    assert found.numbers["probes"]["y"] == {"linear": None, "mlp": None, "fit": None}
    assert any("some states of" in sentence for sentence in found.verdict)
    json.dumps(found.to_dict(), allow_nan=False)


def test_data_that_do_not_fit_are_refused(small_dataset: Any) -> None:
    agent = agent_with(small_dataset)
    rng = np.random.default_rng(0)
    large = dataclasses.replace(small_dataset, pixels=rng.integers(0, 256, (2424, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="has images of 32 x 32 pixels"):
        diagnose(agent, large, **FEW)
    wide = dataclasses.replace(small_dataset, actions=np.zeros((len(small_dataset.actions), 3), np.float32))
    with pytest.raises(ValueError, match="has actions of size 3"):
        diagnose(agent, wide, **FEW)
    agent.env_id = "wm/PushT-v0"
    with pytest.raises(
        ValueError, match="has episodes of wm/PointMaze-UMaze-v0, the agent was trained for wm/PushT-v0"
    ):
        diagnose(agent, small_dataset, **FEW)
    agent.env_id = ""
    short = dataclasses.replace(small_dataset, lengths=np.full_like(small_dataset.lengths, 4))
    with pytest.raises(ValueError, match="is too small for a diagnosis: 12 episodes of up to 4 actions are held out"):
        diagnose(agent, short, **FEW)
    with pytest.raises(ValueError, match=r"the plan left does not fit the agent: actions must be .* got \[1, 5, 3\]"):
        diagnose(agent, small_dataset, plans={"left": np.zeros((5, 3))}, **FEW)
    for plans in ([np.zeros((5, 2))], np.zeros((5, 2)), []):
        with pytest.raises(ValueError, match="plans are actions by name"):
            diagnose(agent, small_dataset, plans=plans, **FEW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is no agent with a world model"):
        diagnose(agent.world_model, small_dataset, **FEW)
    with pytest.raises(ValueError, match=r"the plan left has 4 steps, fewer than"):
        diagnose(agent, small_dataset, plans={"left": np.zeros((4, 2))}, **FEW)


def test_a_diverged_world_model_is_named(small_dataset: Any) -> None:
    agent = agent_with(small_dataset)
    agent.world_model.embed = lambda pixels: torch.full((len(pixels), 2), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="NaN or infinite"):
        diagnose(agent, small_dataset, **FEW)


# The page.


class Page(HTMLParser):
    """Collects images and captions, and checks that tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.captions = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)
        self.captions += tag == "figcaption"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def with_viewer(data: Any) -> WorldModelAgent:
    agent = agent_with(data)
    torch.manual_seed(0)
    viewer = Viewer(ViewerConfig(latent_size=2, width=2)).eval()
    viewer.stamp(agent.world_model)
    agent.heads["viewer"] = viewer
    return agent


@pytest.fixture(scope="module")
def page(small_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WORLD_MODELS, "_entries", {**WORLD_MODELS._entries, "sees": Sees})
        folder = tmp_path_factory.mktemp("diagnosis")
        agent = with_viewer(small_dataset)
        diagnose(agent, small_dataset, plans={"<up>": np.full((12, 2), 0.5)}, **FEW).save(folder)
        return folder


def test_the_page_needs_no_other_file_and_every_picture_has_a_caption(page: Path) -> None:
    text = (page / "diagnosis.html").read_text(encoding="utf-8")
    found = Page(text)
    assert found.open == []
    assert len(found.images) == found.captions == 9
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in found.images)
    assert not re.search(r"(href|src)=\"(?!data:)", text)
    assert "http" not in text
    assert "Plan &lt;up&gt;" in text
    assert 'name="viewport"' in text
    numbers = json.loads((page / "diagnosis.json").read_text())
    assert numbers["verdict"][0]["kind"] in ("good", "warning", "bad")
    assert "<th>variable</th><th>linear</th><th>MLP</th>" in text
    x = numbers["probes"]["x"]
    assert f"<td>x</td><td>{x['linear']:.2f}</td><td>{x['mlp']:.2f}</td>" in text


def test_without_states_the_page_has_no_empty_panels(small_dataset: Any, tmp_path: Path) -> None:
    data = bare(small_dataset)
    diagnose(with_viewer(data), data, **FEW).save(tmp_path)
    found = Page((tmp_path / "diagnosis.html").read_text(encoding="utf-8"))
    assert len(found.images) == found.captions == 6
    assert "Not known." in (tmp_path / "diagnosis.html").read_text(encoding="utf-8")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_every_picture_at_the_width_of_a_phone(page: Path, tmp_path: Path) -> None:
    checked = tmp_path / "checked.html"
    script = (
        "<script>onload = () => { const all = [...document.images]; document.title = JSON.stringify({"
        "drawn: all.filter(i => i.naturalWidth > 100).length, wide: document.body.scrollWidth - innerWidth}) }</script>"
    )
    checked.write_text((page / "diagnosis.html").read_text(encoding="utf-8") + script, encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=500,900", "--virtual-time-budget=5000", "--dump-dom", checked.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = json.loads(re.findall(r"<title>({.*?})</title>", done.stdout)[0].replace("&quot;", '"'))
    assert told["drawn"] == 9
    assert told["wide"] <= 0, "nothing has to be scrolled sideways"


def test_the_saved_agent_draws_what_it_imagines(small_dataset: Any, tmp_path: Path) -> None:
    model = tiny_world_model(small_dataset)
    viewer = Viewer(ViewerConfig(latent_size=8, width=2)).eval()
    viewer.stamp(model)
    agent = MPC(model, **CEM)
    agent.heads["viewer"] = viewer
    diagnose(agent, small_dataset, **FEW).save(tmp_path)
    again = MPC.load(tmp_path / "agent.safetensors", device="cpu")
    pixels = small_dataset.frames_at(np.array([3]))[0]
    np.testing.assert_array_equal(
        again.imagine({"pixels": pixels}, small_dataset.actions[:10]),
        agent.imagine({"pixels": pixels}, small_dataset.actions[:10]),
    )


# The command.


def command(monkeypatch: pytest.MonkeyPatch, capfd: Any, *words: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["wm-agents", *words])
    with contextlib.suppress(SystemExit):
        cli.main()
    return capfd.readouterr()


def test_the_command_writes_the_page(
    small_dataset: Any, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data_root))
    monkeypatch.chdir(tmp_path)
    model = tiny_world_model(small_dataset)
    viewer = Viewer(ViewerConfig(latent_size=8, width=2)).eval()
    viewer.stamp(model)
    MPC(model, heads=[viewer], **CEM).save("agent.zip")
    Path("up.csv").write_text("0.5, 0.1\n" * 10)
    few = ("--pairs", "3", "--candidates", "6")
    out, err = command(monkeypatch, capfd, "diagnose", "agent.zip", small_dataset.name, *few, "--plans", "up.csv")
    assert "error" not in err
    assert "wrote runs/diagnosis/diagnosis.html" in out
    assert "Plan up" in Path("runs/diagnosis/diagnosis.html").read_text(encoding="utf-8")
    twice = ("--plans", "up.csv", "./up.csv")
    assert "two files of --plans have the same name" in command(
        monkeypatch, capfd, "diagnose", "agent.zip", small_dataset.name, *twice
    )[1].replace("\n", " ")
    Path("up.csv").write_text("left, right\n")
    _, err = command(monkeypatch, capfd, "diagnose", "agent.zip", small_dataset.name, "--plans", "up.csv")
    assert "up.csv is no plan, which has one action a line" in err
    Path("file").write_text("")
    _, err = command(monkeypatch, capfd, "diagnose", "agent.zip", small_dataset.name, "--out", "file")
    assert "error: cannot write file" in err


def test_as_many_plans_are_filmed_as_there_are(small_dataset: Any) -> None:
    few = {**FEW, "candidates": FILMED - 10}
    assert (
        diagnose(agent_with(small_dataset), small_dataset, pictures=False, **few).numbers["ranking"]["candidates"] == 6
    )


def test_data_without_an_environment_are_diagnosed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (31, 64, 64, 3), dtype=np.uint8) for _ in range(6)]
    actions = [rng.uniform(-1, 1, (30, 2)) for _ in range(6)]
    data = from_episodes(images, actions, name="mine/noise-v0", progress=False)
    found = diagnose(agent_with(data), data, pictures=False, **FEW)
    assert found.score is None
    assert any("no simulator states" in sentence for sentence in found.verdict)
