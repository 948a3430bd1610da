"""The lock, pyproject.toml, environment.yml, the workflow and the installed packages say the same."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch
import torchvision
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "mac": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}

# Declared, and used without an import in shared/, papers/ or tests/.
USED_OTHERWISE = {
    "accelerate": "transformers reads GGUF weights with it",
    "espeakng-loader": "brings the espeak-ng library and voices",
    "gguf": "transformers reads GGUF weights with it",
    "hatchling": "builds the package",
    "ipykernel": "runs the notebooks",
    "jupyter-book": "builds the site",
    "jupyterlab": "opens the notebooks",
    "nbval": "pytest's plugin for the chapters",
    "pip": "fetches data wheels",
    "pytest-xdist": "pytest's plugin for two processes",
    "ruff": "the linter",
    "sphinx-mathjax-offline": "named in _config.yml",
    "uv": "installs the lock and writes it",
}


@cache
def locked() -> dict[str, list[tuple[Requirement, list[str]]]]:
    """Name -> (requirement with marker, hashes) for each of its entries in the lock."""
    entries = defaultdict(list)
    for line in re.sub(r"\s*\\\n\s*", " ", LOCK).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            text, *hashes = re.split(r"\s+--hash=", line.strip())
            requirement = Requirement(text)
            entries[canonicalize_name(requirement.name)].append((requirement, hashes))
    return dict(entries)


def environment(python: str, system: str) -> dict[str, str]:
    """What markers are evaluated against."""
    return (
        default_environment()
        | SYSTEMS[system]
        | {
            "python_version": python,
            "python_full_version": f"{python}.9",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }
    )


def chosen(name: str, where: dict[str, str]) -> list[Requirement]:
    """The lock's entries for a package that apply in an environment."""
    return [r for r, _ in locked().get(canonicalize_name(name), []) if not r.marker or r.marker.evaluate(where)]


def declared(*extras: str) -> list[Requirement]:
    """The direct dependencies in pyproject.toml, with those of some extras."""
    return [Requirement(text) for text in sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])]


def test_every_entry_of_the_lock_is_one_version_with_hashes():
    entries = [entry for several in locked().values() for entry in several]
    assert len(entries) > 100
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), f"{requirement} is not pinned"
        assert requirement.url is None, f"{requirement} names a place"
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), f"{requirement} lacks a hash"


def test_the_lock_names_no_host_no_path_and_no_option():
    assert "://" not in LOCK
    lines = [line.strip() for line in LOCK.splitlines()]
    assert not [line for line in lines if line.startswith("-") and not line.startswith("--hash=sha256:")]
    assert not re.search(r"#.*\buv pip compile\b", LOCK), "write it with 'make lock': its header would name local paths"


def test_the_lock_was_made_from_pyproject():
    """The lock's comments say which packages were asked for directly."""
    asked, name = set(), None
    for line in LOCK.splitlines():
        if not line.startswith((" ", "#")):
            name = re.match(r"[\w.-]+", line)[0]
        elif re.search(rf"#.*\b{PROJECT['name']} \(pyproject\.toml\)", line):
            asked.add(canonicalize_name(name))
    assert asked == {canonicalize_name(r.name) for r in declared(*EXTRAS)}, "run 'make lock'"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_is_complete(python, system):
    """From the declared packages on, everything required has one version in the lock, and one that satisfies."""
    where = environment(python, system)
    todo, seen = [(r, PROJECT["name"]) for r in declared(*EXTRAS)], set()
    while todo:
        requirement, by = todo.pop()
        versions = chosen(requirement.name, where)
        assert len(versions) == 1, f"{by} needs {requirement} on {system}, Python {python}: the lock has {versions}"
        version = str(versions[0].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{by} needs {requirement}, not {version}"
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), extra
            if key not in seen:
                seen.add(key)
                todo += [(r, requirement.name) for r in required_by(requirement.name, where | {"extra": extra})]
    assert len(seen) > 100


def required_by(name: str, where: dict[str, str]) -> list[Requirement]:
    """What an installed package requires in an environment; nothing for one that is not installed on this system."""
    try:
        texts = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [r for r in map(Requirement, texts) if not r.marker or r.marker.evaluate(where)]


def test_what_is_installed_is_what_the_lock_says():
    here = default_environment() | {"extra": ""}
    for requirement in (r for name in locked() for r in chosen(name, here)):
        version = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(version, prereleases=True), f"{version} is installed, not {requirement}"


def test_torch_and_torchvision_are_pinned_together_and_fit():
    """torchvision's own metadata accepts any newer torch, but its operators load only into the one it was built for."""
    pinned = {r.name: str(r.specifier) for r in declared() if r.name in ("torch", "torchvision")}
    assert len(pinned) == 2 and all(pin.startswith("==") for pin in pinned.values())
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


def test_pythons_are_the_same_everywhere():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in (f"3.{minor}" for minor in range(9, 17)) if f"{v}.9" in supported] == list(PYTHONS)
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == list(PYTHONS)


def test_the_conda_environment_is_a_shell_around_the_lock():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == PROJECT["name"]
    python, pip, packages = conda["dependencies"]
    # repo2docker (Binder) reads the version only when it is written like this.
    version = re.fullmatch(r"python=(\d\.\d+)", python)
    assert version and version[1] in PYTHONS
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.lock"]}


def test_binder_and_continuous_integration_scripts_can_be_run():
    for script in (ROOT / "postBuild", ROOT / ".ci" / "run"):
        assert script.stat().st_mode & 0o111, f"chmod +x {script.name}"


def imports(path: Path) -> set[str]:
    """Top-level names of the packages that a module or notebook imports, those inside functions as well."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "code" and not c.source.startswith("%%"))
        text = re.sub(r"^\s*[%!].*$", "", text, flags=re.MULTILINE)
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            names.add(node.args[0].value.split(".")[0])  # what is declared is installed: no test skips for want of it
    return names - set(sys.stdlib_module_names) - {"shared", "tests"}


def importers() -> list[tuple[Path, tuple[str, ...]]]:
    """Every module and notebook, with the extras whose packages it may import."""
    found = []
    for path in sorted((ROOT / "shared").rglob("*.py")):
        where = path.relative_to(ROOT / "shared").parts[0]
        found.append((path, {"site": ("site",), "authoring.py": ("dev",)}.get(where, ())))
    # A chapter's checks may use a peer's implementation, which comes with the tests.
    found += [(path, ("test",)) for path in sorted((ROOT / "papers").rglob("*.ipynb"))]
    found += [(path, tuple(EXTRAS)) for path in sorted((ROOT / "tests").rglob("*.py"))]
    return found


def distributions(name: str) -> set[str]:
    """The installed packages that provide an importable name."""
    return {canonicalize_name(d) for d in _providers().get(name, ())}


@cache
def _providers():
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize(("path", "extras"), [pytest.param(p, e, id=str(p.relative_to(ROOT))) for p, e in importers()])
def test_every_import_is_a_declared_dependency(path, extras):
    allowed = {canonicalize_name(r.name) for r in declared(*extras)}
    undeclared = [name for name in sorted(imports(path)) if not distributions(name) & allowed]
    assert not undeclared, "declare it in pyproject.toml and run 'make lock'"


def test_every_declared_dependency_is_used():
    imported = set().union(*(distributions(name) for path, _ in importers() for name in imports(path)))
    asked = {canonicalize_name(r.name) for r in declared(*EXTRAS)}
    assert asked - imported - set(USED_OTHERWISE) == set()
    assert set(USED_OTHERWISE) <= asked
