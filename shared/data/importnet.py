"""importnet: a citation-like graph made of installed packages; modules are the papers, imports the citations."""

from __future__ import annotations

import ast
import collections
import importlib.util
import re
import warnings
from pathlib import Path

from . import cache
from .errors import DataError
from .graphs import torch_geometric
from .registry import loader

#: Installed with the book on every platform, and their Python sources are the same on all of them.
PACKAGES = ("sklearn", "scipy", "networkx", "sympy", "torch_geometric", "pandas")
WORDS = 500
_WORD = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}")  # the parts of snake_case and CamelCase names, and of prose
_NOT_SOURCE = re.compile(r"(^|\.)(tests?|testing|conftest|setup|_?version|externals|_lib|vendor\w*)(\.|$)")


def _modules(package: str) -> dict[str, Path]:
    """Module name -> file of every Python module of an installed package, without its tests and what it bundles of
    others.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"The package {package!r} is not installed, so importnet cannot be made of it: install it or name another."
        )
    root = Path(spec.submodule_search_locations[0])
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not _NOT_SOURCE.search(module):
            found[module] = path
    return found


def _read(module: str, path: Path, known: set[str]) -> tuple[set[str], set[str]]:
    """(known modules that a module imports, words of its identifiers and docstrings in lower case, imports left out).

    What is imported from a package counts as the submodule of that name, if there is one, else as the package itself.
    """
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    imported, text = set(), []
    with warnings.catch_warnings():  # newer Pythons complain of escapes in strings, which is not our business
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            text.append(node.id)
        elif isinstance(node, ast.Attribute):
            text.append(node.attr)
        elif isinstance(node, ast.arg):
            text.append(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text += [node.name, ast.get_docstring(node, clean=False) or ""]
        elif isinstance(node, ast.Module):
            text.append(ast.get_docstring(node, clean=False) or "")
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, node.module] if node.module else base)
            imported |= {f"{base}.{alias.name}" for alias in node.names} & known or {base}
    words = {word.lower() for word in _WORD.findall(" ".join(text))}
    return (imported & known) - {module}, words


def build(packages, smallest: int):
    """Parse the packages: (names, labels, class names, directed pairs, words, binary (N, words) matrix as lists)."""
    files = {module: path for package in packages for module, path in _modules(package).items()}
    known = set(files)
    label = {module: ".".join(module.split(".")[:2]) for module in files if "." in module}
    size = collections.Counter(label.values())
    names = sorted(module for module in label if size[label[module]] >= smallest)
    class_names = sorted({label[module] for module in names})
    if not names:
        raise DataError(f"No sub-package of {', '.join(packages)} has {smallest} modules: lower `smallest`.")
    number = {module: i for i, module in enumerate(names)}
    pairs, occurring = [], []
    for module in names:
        imported, found = _read(module, files[module], known)
        pairs += [(number[module], number[other]) for other in sorted(imported) if other in number]
        occurring.append(found)
    frequency = collections.Counter(word for found in occurring for word in found)
    banned = {word.lower() for name in class_names for word in _WORD.findall(name)}
    usable = [w for w, times in frequency.items() if w not in banned and times <= len(names) / 2]
    words = sorted(sorted(usable, key=lambda word: (-frequency[word], word))[:WORDS])
    present = [[word in found for word in words] for found in occurring]
    return names, [class_names.index(label[module]) for module in names], class_names, pairs, words, present


@loader("importnet")
def importnet(name: str, packages=PACKAGES, smallest: int = 30):
    """The import graph of installed packages: `torch_geometric.data.Data` with x, edge_index, y, names, classes,
    words, homophily.

    Nodes are the modules of sub-packages with at least `smallest` modules (tests left out); an undirected edge joins
    two modules of which one imports the other; the class is the sub-package ("scipy.sparse"). x (N, 500) float32:
    which of the 500 commonest words (in at most half of the modules, none of a class's name) occur in the module's
    identifiers and docstrings, rows normalised to the sum 1. edge_index (2, E) int64 holds both directions, sorted.
    homophily: the share of edges that join modules of one class. No split: draw one. The graph depends on nothing but
    the versions of the packages; it is built once (about 10 s), then cached for the versions installed.
    """
    import json
    from importlib import metadata

    import numpy as np
    import torch

    distribution = metadata.packages_distributions()
    versions = [f"{p}={metadata.version(distribution[p][0])}" for p in packages if p in distribution]

    def make(path):
        names, labels, class_names, pairs, words, present = build(tuple(packages), smallest)
        about = json.dumps({"names": names, "classes": class_names, "words": words})
        np.savez(
            path,
            labels=labels,
            pairs=np.array(pairs).reshape(-1, 2),
            present=np.array(present, dtype=bool),
            about=about,
        )

    stored = np.load(cache.built(f"importnet/{cache.key('v1', *packages, *versions, smallest, WORDS)}.npz", make))
    about = json.loads(str(stored["about"]))
    labels = stored["labels"].astype(np.int64)
    nodes = len(labels)
    both = np.concatenate([stored["pairs"], stored["pairs"][:, ::-1]])
    edges = np.unique(both[:, 0] * nodes + both[:, 1])
    source, target = edges // nodes, edges % nodes
    x = stored["present"].astype(np.float32)
    x /= np.maximum(x.sum(1, keepdims=True), 1)
    return torch_geometric("data").Data(
        x=torch.from_numpy(x),
        edge_index=torch.from_numpy(np.stack([source, target])),
        y=torch.from_numpy(labels),
        homophily=float((labels[source] == labels[target]).mean()) if len(edges) else float("nan"),
        **about,
    )
