"""What a chapter ran on: hashes of the code, versions, the machine."""

import ast
import hashlib
import importlib.metadata
import json
import platform
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

#: Files of the package that find, fetch and keep data: they hand on bytes, which cannot depend on how they came.
DELIVERY = {f"data/{name}.py" for name in ("__init__", "cache", "errors", "hub", "registry", "wheels")}

LIBRARIES = ("torch", "torchvision", "torch-geometric", "numpy", "scipy", "pandas", "scikit-learn", "xgboost")


def shared_files(notebook, package: Path = PACKAGE) -> dict[str, str]:
    """Hashes of the files of the shared package that a notebook's numbers depend on, by path within the package.

    A file counts when a code cell imports it, or a file that counts, be it inside a function. Of the loaders of data
    only those count whose sets are named in these (as strings; within ``data`` itself, in a call of ``load``), or that
    are used as an attribute of ``data``: a new data set does not make every chapter stale.
    """
    found, waiting = {}, ["__init__.py"]
    for cell in notebook.cells:
        waiting += _uses(cell.source, (), package) if cell.cell_type == "code" else []
    while waiting:
        path = waiting.pop()
        if path not in found and path not in DELIVERY:
            text = (package / path).read_text(encoding="utf-8")
            found[path] = hashlib.sha256(text.encode()).hexdigest()
            waiting += _uses(text, Path(path).parts[:-1], package)
    return dict(sorted(found.items()))


def shared_sha256(notebook, package: Path = PACKAGE) -> str:
    """Hash of the shared code that a notebook's numbers depend on: of ``shared_files``, names and contents."""
    return hashlib.sha256(json.dumps(shared_files(notebook, package)).encode()).hexdigest()


@cache
def _loaders() -> dict[str, str]:
    """Which file of the package loads a data set, by the set's name."""
    from shared.data import registry

    return {name: f"data/{registry.module_of(name)}.py" for name in registry.names()}


def _uses(text: str, folder: tuple[str, ...], package: Path) -> list[str]:
    """Files of the package that a source uses, which lies in ``folder`` of it; none if it is not Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [tuple(alias.name.split(".")[1:]) for alias in node.names if alias.name.split(".")[0] == "shared"]
        elif isinstance(node, ast.ImportFrom):
            start = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                start = (*folder[: len(folder) - node.level + 1], *start)
            elif start[:1] == ("shared",):
                start = start[1:]
            else:
                continue
            names += [start, *((*start, alias.name) for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "data":
            names.append(("data", node.attr))
    candidates = [path for name in names for path in ("/".join(name) + ".py", "/".join((*name, "__init__.py")))]
    places = ast.walk(tree)
    if folder == ("data",):
        calls = (node for node in places if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "load")
        places = (argument for call in calls for argument in call.args)
    constants = {node.value for node in places if isinstance(node, ast.Constant)}
    candidates += [file for name, file in _loaders().items() if name in constants]
    return [path for path in candidates if (package / path).is_file()]


def lock_sha256(root: Path | None) -> str | None:
    """Hash of the lock file ``requirements.lock`` in a checkout, or None where there is none."""
    lock = root / "requirements.lock" if root else None
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock and lock.exists() else None


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that decide a chapter's numbers."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's name as the operating system gives it, with the machine's architecture as a last resort."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
