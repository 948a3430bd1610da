"""Python functions of the standard library and of installed packages: parsed, never imported or run."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import sysconfig
import warnings
from pathlib import Path

from . import cache
from .errors import DataError
from .registry import loader

#: Stands for the standard library among the names of packages.
STDLIB = "stdlib"
PACKAGES = (STDLIB, "sklearn", "scipy", "networkx")
_TESTS = re.compile(r"(^|\.)(tests?|test_\w+|idle_test|testing|conftest|site-packages)(\.|$)")
_NAMED = {"Name": "id", "arg": "arg", "Attribute": "attr", "keyword": "arg", "FunctionDef": "name", "ClassDef": "name",
          "AsyncFunctionDef": "name", "alias": "name"}  # fmt: skip


def _files(package: str) -> list[tuple[str, Path]]:
    """(module, file) of each Python file of an installed package, its tests left out, sorted by module."""
    if package == STDLIB:
        root = base = Path(sysconfig.get_paths()["stdlib"])
    else:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"The package {package!r} is not installed, so its functions cannot be read: name another.")
        root = Path(spec.submodule_search_locations[0])
        base = root.parent
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(base).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not _TESTS.search(module) and (package != STDLIB or parts[0] in sys.stdlib_module_names):
            found.append((module, path))
    return sorted(found)


def _functions(body, prefix: str = ""):
    """(qualified name, node) of the functions of a module or a class, methods included, inner functions left out."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):  # definitions that depend on the platform
            handlers = [inner for handler in getattr(node, "handlers", ()) for inner in handler.body]
            inside = [*node.body, *handlers, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            yield from _functions(inside, prefix)


def compact(node: ast.AST) -> str:
    """A syntax tree on one line, in the order in which the code is read: a node is its type, then its children in
    parentheses, separated by spaces.

    A node that names something carries the name after a colon, a constant the type of its value: `x + 1` is
    ``BinOp(Name:x Add Constant:int)``. Contexts (load, store) are left out. `parse_tree` reads it back.
    """
    kind = type(node).__name__
    if kind == "Constant":
        label = f"Constant:{type(node.value).__name__}"
    else:
        name = getattr(node, _NAMED[kind]) if kind in _NAMED else None
        label = f"{kind}:{name}" if name else kind
    children = [compact(child) for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr_context)]
    return f"{label}({' '.join(children)})" if children else label


def parse_tree(tree: str) -> tuple[list[str], list[int]]:
    """The labels of the nodes of a compact tree in preorder, and the number of each node's parent (-1 for the root)."""
    labels, parents, above = [], [], [-1]
    for label, mark in re.findall(r"([^\s()]+)|([()])", tree):
        if label:
            labels.append(label)
            parents.append(above[-1])
        elif mark == "(":
            above.append(len(labels) - 1)
        else:
            above.pop()
    return labels, parents


def read_module(package: str, module: str, content: bytes) -> list[tuple]:
    """Rows of the table of `python_functions` for one source file; none when it does not parse."""
    with warnings.catch_warnings():  # what old code says to a new parser
        warnings.simplefilter("ignore")
        try:
            text = importlib.util.decode_source(content)
            parsed = ast.parse(text)
        except (SyntaxError, ValueError):
            return []
    lines = text.split("\n")
    found = []
    for qualified, node in _functions(parsed.body):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        indented = re.compile(rf"[ \t]{{0,{node.col_offset}}}")
        source = "\n".join(indented.sub("", line, count=1) for line in lines[first - 1 : node.end_lineno])
        docstring = ast.get_docstring(node) or ""
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{node.name}({ast.unparse(node.args)}){returned}"
        row = (package, module, qualified, node.name, signature, docstring, source, ast.unparse(node), compact(node))
        found.append(row)
    return found


@loader("python-functions")
def python_functions(name: str, packages=PACKAGES):
    """Functions and methods of the standard library and of installed packages, a data frame with one row a function,
    sorted by package (in the order asked for), module and place in the file.

    packages: names of installed packages, "stdlib" for the standard library. Columns, all text: package, module,
    qualified ("Class.method"), name, signature (with default values and annotations), docstring (empty when there is
    none, indentation removed), source (as written, with comments and docstring, indentation removed),
    code (the same without comments and docstring, in uniform layout), tree (the syntax tree of `code`, see
    `source_code.compact` and `source_code.parse_tree`). Functions inside of functions belong to those around them;
    tests are left out. Which functions there are depends on the versions of Python and the packages: parsed once, then
    cached for those.
    """
    from importlib import metadata

    import pandas as pd

    packages = tuple(packages)
    distribution = metadata.packages_distributions()
    versions = [f"{p}={metadata.version(distribution[p][0])}" for p in packages if p in distribution]
    columns = ["package", "module", "qualified", "name", "signature", "docstring", "source", "code", "tree"]

    def parse(path):
        rows = [
            row
            for package in packages
            for module, file in _files(package)
            for row in read_module(package, module, file.read_bytes())
        ]
        pd.DataFrame(rows, columns=columns).to_parquet(path, compression="zstd")

    entry = f"parsed/python-functions-{cache.key('v1', sys.version, *packages, *versions)}.parquet"
    return pd.read_parquet(cache.built(entry, parse))
