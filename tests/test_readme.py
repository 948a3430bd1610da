"""README's worked example, 'Adding a chapter', does what it says when it is followed to the letter."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SLUG = "tabular/random-features"


def blocks(section: str, language: str) -> list[str]:
    """The fenced blocks of one language in one section of the README."""
    text = re.search(rf"^## {re.escape(section)}$(.*?)(?=^## )", README, flags=re.MULTILINE | re.DOTALL)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout with the example's files in place."""
    copy = tmp_path_factory.mktemp("readme") / "checkout"
    left_out = shutil.ignore_patterns(".venv", ".git", "build", "runs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=left_out)
    chapter, test = blocks("Adding a chapter", "python")
    entry, page = blocks("Adding a chapter", "yaml")
    (copy / "random-features.py").write_text(chapter, encoding="utf-8")
    (copy / "tests" / "papers" / "test_random_features.py").write_text(test, encoding="utf-8")
    with (copy / "papers" / "catalog.yml").open("a", encoding="utf-8") as file:
        file.write(entry)
    add_page(copy / "_toc.yml", page)
    return copy


def add_page(path: Path, page: str) -> None:
    """Put the README's entry where it belongs in the table of contents: under its part."""
    contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    (new,) = yaml.safe_load(page)
    part = next((part for part in contents["parts"] if part["caption"] == new["caption"]), None)
    if part is None:
        contents["parts"].append(new)
    else:
        part["chapters"] += new["chapters"]
    path.write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")


def follow(checkout: Path, command: str) -> str:
    """What a command of the README prints in the copy, with this environment activated. Fails when it does."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),  # the installed package is the checkout that is being tested, not the copy
    }
    for name in [name for name in environment if name.startswith(("PYTEST_", "PAPERS_PRO"))]:
        del environment[name]
    result = subprocess.run(command, shell=True, cwd=checkout, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_example_becomes_a_chapter(checkout):
    make, finish = blocks("Adding a chapter", "bash")
    printed = follow(checkout, make.strip())
    assert not re.findall(r"^- .*", printed, flags=re.MULTILINE), "the example lacks something that a chapter needs"
    run, test, build = finish.strip().splitlines()
    assert "1 done" in follow(checkout, run)
    assert re.search(r"\d passed", follow(checkout, test))
    assert build == "make book"  # the tests of the site build one
    (row,) = json.loads(follow(checkout, f"papers status {SLUG} --json"))
    assert (row["state"], row["verdict"]) == ("fresh", "holds")
    assert (checkout / "book" / "chapters" / f"{SLUG}.ipynb").stat().st_size < 400_000
    follow(checkout, f"ruff check papers/{SLUG}.ipynb tests/papers/test_random_features.py")


def test_the_commands_that_the_readme_names_exist():
    """Every subcommand and option of `papers` in the README is known to it."""
    examples = "\n".join(
        blocks("Many notebooks", "bash") + blocks("Other machines", "bash") + blocks("After an upgrade", "bash")
    )
    named = re.findall(r"^papers (\w+)(.*?)(?:  #.*)?$", examples, flags=re.MULTILINE)
    assert len(named) >= 8
    for command in sorted({command for command, _ in named}):
        known = subprocess.run(
            [sys.executable, "-m", "shared.runner", command, "--help"],
            cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, check=True,
        ).stdout  # fmt: skip
        options = {o for c, rest in named if c == command for o in re.findall(r"(?<!\S)--?[a-z]+", rest)}
        assert options <= set(re.findall(r"(?<![\w-])--?[a-z]+", known)), f"papers {command}"


def test_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z]+)", texts, flags=re.MULTILINE))
    assert {"book", "test", "lock"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


def test_files_that_the_documents_link_to_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []
