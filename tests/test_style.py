"""Every file of the repository: lint, nothing of one machine, no package registry named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BINARY = {".png", ".jpg", ".ico", ".woff2", ".gz", ".npz", ".parquet"}

# A path that exists on one machine only, such as a home or a scratch folder; not a URL's path.
MACHINE_PATH = re.compile(r"(?<![\w.:/~*-])/(?:work|root|home|Users|tmp|mnt)/\w")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|anaconda|npmjs|download\.pytorch)\.(?:org|com)\b")
# What a console leaves behind when its output is kept: colours, and progress bars drawn over each other.
RESIDUE = re.compile(r"\x1b\[|\\u001b\[|\d+%\|")


def tracked() -> list[Path]:
    """Files of the repository, with those that are new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and path != Path(__file__).resolve()]


def found(pattern: re.Pattern, paths: list[Path]) -> list[str]:
    """Where a pattern occurs: file, line and what was found."""
    hits = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            hits += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in pattern.finditer(line)]
    return hits


@pytest.fixture(scope="module")
def texts() -> list[Path]:
    """Every file that holds text."""
    paths = [path for path in tracked() if path.suffix not in BINARY]
    assert ROOT / "pyproject.toml" in paths
    return paths


def test_ruff_finds_nothing():
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_names_a_path_of_one_machine(texts):
    assert found(MACHINE_PATH, texts) == []


def test_no_file_names_a_package_registry(texts):
    assert found(REGISTRY, texts) == []


def test_notebooks_keep_no_console_residue(texts):
    assert found(RESIDUE, [path for path in texts if path.suffix == ".ipynb"]) == []


def test_no_file_is_too_large(texts):
    """A chapter is at most 400 kB; nothing else that a person writes comes near that, nor does a picture."""
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked() if p.stat().st_size > 400_000}
    assert large == {}


@pytest.mark.parametrize("path", ["/home/ann/x", "see /tmp/run1", '"/work/main"', "(/Users/ann)"])
def test_machine_paths_are_recognised(path):
    assert MACHINE_PATH.search(path)


@pytest.mark.parametrize("path", ["https://example.net/home/x", "~/work/x", "papers/tmp/x", "a/b"])
def test_other_paths_are_not(path):
    assert not MACHINE_PATH.search(path)
