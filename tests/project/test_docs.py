"""What README and docs say is true: Python blocks run, commands parse, links lead somewhere."""

from __future__ import annotations

import functools
import importlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

from wm_agents import cli, registry
from wm_agents.envs.rendering import INSTALL_COMMAND
from wm_agents.evaluation import Manifest
from wm_agents.evaluation.report.cards import to_cards
from wm_agents.evaluation.report.markdown import to_markdown

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
GENERATED = {"command-line.md", "configuration.md"}  # docs/reference.py writes them when the documentation is built


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    info: str
    text: str


def blocks(page, language):
    source = page.read_text(encoding="utf-8")
    found = [
        Block(page, source[: match.start()].count("\n") + 1, match[1], match[2], match[3])
        for match in FENCE.finditer(source)
    ]
    return [block for block in found if block.language == language]


def page_name(page):
    return str(page.relative_to(ROOT))


def commands():
    """Yield every ``wm-agents ...`` command line of README and docs."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.text.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    names = [Path(word).name for word in words]
                    if "wm-agents" in names:
                        yield pytest.param(
                            words[names.index("wm-agents") + 1 :], id=f"{page_name(page)}: {shlex.join(words)}"
                        )


@pytest.mark.filterwarnings("ignore:latents have collapsed")  # the runs of the docs are a few steps long
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for table in vars(registry).values():
        if isinstance(table, registry.Registry):  # what a page registers is forgotten after it
            monkeypatch.setattr(table, "_entries", dict(table._entries))
    namespace = {"__name__": "docs"}
    for block in blocks(page, "python"):
        title = re.search(r'title="([^"]+)"', block.info)
        if title:
            Path(title[1]).write_text(block.text, encoding="utf-8")
            continue
        # Line numbers of a traceback are those of the page.
        exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


@pytest.mark.parametrize("arguments", list(commands()))
def test_command_parses(arguments):
    subcommand, *rest = arguments
    function = {"list": cli.list_names, "import": cli.import_dataset}.get(subcommand) or getattr(cli, subcommand)

    @functools.wraps(function)
    def parsed(*args, **kwargs):
        return args, kwargs

    tyro.cli(parsed, args=rest, prog=f"wm-agents {subcommand}")


@pytest.mark.parametrize("what", ["envs", "planners", "policies", "agents", "training-objectives"])
def test_list_runs(what, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["wm-agents", "list", what])
    cli.main()
    expected = {"envs": "wm/TwoRoom-v0", "planners": "cem", "policies": "waypoint", "agents": "tworoom/gc-idm"}
    expected["training-objectives"] = "inverse_dynamics auto"
    assert expected[what] in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [link for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in targets if not (page.parent / link).exists() and Path(link).name not in GENERATED]
    assert not missing


def test_every_page_is_in_the_navigation():
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    assert set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))) == pages | GENERATED


@pytest.mark.parametrize(("page", "render"), [("report-tables.md", to_markdown), ("models.md", to_cards)])
def test_the_reports_pages_are_what_its_numbers_give(page, render):
    content = json.loads((ROOT / "examples" / "benchmarks" / "results" / "report.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == render(content)


def test_the_cubes_tasks_are_those_of_the_report():
    content = json.loads((ROOT / "examples" / "benchmarks" / "results" / "report.json").read_text(encoding="utf-8"))
    protocols = content["tasks"]["cube-single"]["protocols"]
    folder = ROOT / "examples" / "benchmarks" / "results" / "manifests"
    found = {path.name: Manifest.load(path).sha256 for path in folder.iterdir()}
    assert found == {
        f"cube-single_{name.replace('/', '-')}_n-200.json": protocol["manifest_sha256"]
        for name, protocol in protocols.items()
    }


def test_the_api_page_lists_names_that_exist():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        module = re.match(r"`([\w.]+)`", section)
        for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
            for name in re.findall(r"`(\w[\w.]*)", cell) if module else ():
                if not hasattr(importlib.import_module(module[1]), name):
                    missing.append(f"{module[1]}.{name}")
    assert not missing


def test_the_renderer_is_installed_with_the_line_that_errors_give():
    for page in (ROOT / "README.md", ROOT / "docs" / "install.md"):
        assert INSTALL_COMMAND in page.read_text(encoding="utf-8")


def test_readme_has_the_two_set_up_commands():
    lines = "".join(block.text for block in blocks(ROOT / "README.md", "bash")).splitlines()
    assert "python3 -m venv --upgrade-deps .venv && .venv/bin/pip install . && .venv/bin/wm-agents quickstart" in lines
    assert 'python3 -m venv --upgrade-deps .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest' in lines
