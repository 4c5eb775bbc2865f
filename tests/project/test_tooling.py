"""Files that repeat one another agree: lower bounds, the targets of the Makefile, the commands of README."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pytest brings the same under another name
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# torch: see .ci/lowest.txt. pip and setuptools build the wheel of a test; nothing of ours imports them.
NOT_PINNED = {"torch", "pip", "setuptools"}
pytestmark = pytest.mark.skipif(not (ROOT / ".ci" / "run").is_file(), reason="not a checkout")


def bounds(requirements, operators):
    """The requirements as a set of (name, version, marker), where the version is that of one of ``operators``."""
    found = set()
    for requirement in map(Requirement, requirements):
        versions = [clause.version for clause in requirement.specifier if clause.operator in operators]
        assert len(versions) == 1, f"{requirement} needs one lower bound"
        found.add((canonicalize_name(requirement.name), Version(versions[0]), str(requirement.marker or "")))
    return {row for row in found if row[0] not in NOT_PINNED}


def test_lowest_versions_are_the_lower_bounds():
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = bounds([line for line in lines if not line.startswith("#")], ("==",))
    allowed = bounds([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]], (">=", "=="))
    assert pinned == allowed


def test_makefile_has_the_targets_that_are_used():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in ("CONTRIBUTING.md", "docs/install.md", ".ci/run", ".ci/lowest.txt", "pyproject.toml"):
        text = (ROOT / page).read_text(encoding="utf-8")
        used = set(re.findall(r"(?:`|^|=1 )make ([a-z-]+)", text, re.MULTILINE))
        used |= {target for loop in re.findall(r"for target in (.*);", text) for target in loop.split()}
        assert used <= targets, page


def test_ci_finds_the_commands_of_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^set_up\(\) .*$", script, re.MULTILINE)
    wanted = re.findall(r"\$\(set_up '(.*)'\)", script)
    assert len(wanted) == 2
    for words in wanted:
        done = subprocess.run(
            ["bash", "-c", f'{function[0]}; set_up "$1"', "bash", words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.count("\n") == 1, f"one line with {words!r}"
        assert words in done.stdout


def test_slow_tests_are_listed_once_and_leave_fast_ones():
    lines = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    assert rows == sorted(set(rows))
    whole = {row for row in rows if "::" not in row}
    for folder in {path.parent for path in (ROOT / "tests").rglob("test_*.py")}:
        files = {path.relative_to(ROOT / "tests").as_posix() for path in folder.glob("test_*.py")}
        assert files - whole, f"every test file in {folder} is slow"
