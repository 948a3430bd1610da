"""The form of a source notebook: sections, tags, sizes, and what may not stand in it."""

import re

from shared import catalog
from shared.runner import source

#: The sections of a chapter below its title, in order.
SECTIONS = (
    "The claim",
    "The idea",
    "The method",
    "Checks",
    "The experiment",
    "Results",
    "What differs from the paper",
    "Try it",
)
LONGEST_CELL = 45
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|anaconda|conda|npmjs)\.(?:org|com|io)\b")


def machine_folders() -> list[str]:
    """Folders that begin a path of one machine only: homes, scratch space, and where this checkout lies."""
    checkout = catalog.ROOT.parts[1:2] if catalog.ROOT else ()
    return [f"/{name}" for name in sorted({"home", "mnt", "root", "tmp", "Users", *checkout})]


def problems(notebook) -> list[str]:
    """What a source notebook has that a chapter may not have, or lacks; one sentence each, empty when all is well."""
    found = []
    try:
        defaults = source.parameter_defaults(notebook)
        needed = {"profile": None, "seed": 0}
        wrong = [name for name in needed if name not in defaults or defaults[name] != needed[name]]
        found += [f"The parameters cell has no `{name} = {needed[name]}`." for name in wrong]
    except (source.SourceError, SyntaxError) as error:
        found.append(str(error))
    headings = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines()
        if line.startswith(("# ", "## "))
    ]
    titles = [h for h in headings if h.startswith("# ")]
    if len(titles) != 1 or headings[:1] != titles:
        found.append(f"It needs one title, before everything else: it has {titles or 'none'}.")
    sections = [h.removeprefix("## ").strip() for h in headings if h.startswith("## ")]
    if sections != list(SECTIONS):
        found.append(f"Its sections are {sections}: they have to be {list(SECTIONS)}.")
    for number, cell in enumerate(notebook.cells, 1):
        found += [f"Cell {number} {problem}" for problem in _cell_problems(cell)]
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) != len(ids):
        found.append("Two cells have the same id.")
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    version = f"{notebook.nbformat}.{notebook.nbformat_minor}"
    if (version, kernel) != ("4.5", "python3"):
        found.append(f"It has format {version} and kernel {kernel}: they have to be 4.5 and python3.")
    checks = [cell for cell in notebook.cells if "check" in source.tags(cell)]
    if not checks:
        found.append("No cell is tagged `check`.")
    if any("check" in source.tags(c) and not c.get("outputs") for c in notebook.cells):
        found.append("A cell tagged `check` has no output: run `python -m shared.authoring check` on the notebook.")
    return found


def _cell_problems(cell):
    """Sentences, each to follow 'Cell n', about one cell."""
    lines = cell.source.count("\n") + 1
    if cell.cell_type == "code" and lines > LONGEST_CELL:
        yield f"has {lines} lines of code: split it, {LONGEST_CELL} are allowed."
    if found := re.search(rf"(?<![\w.:/])({'|'.join(map(re.escape, machine_folders()))})/[\w.]", cell.source):
        yield f"names a path of one machine ({found[0]}...)."
    if found := REGISTRY.search(cell.source):
        yield f"names the host of a package registry ({found[0]})."
    if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")", cell.source):
        yield "has an image without alt text."
    if cell.cell_type == "markdown":
        for formula in re.findall(r"\$\$.*?\$\$", cell.source, re.DOTALL):
            if r"\tag" in formula and "\\\\" in formula:  # Sphinx puts it in `split`, where MathJax takes no tag
                yield rf"has a numbered formula with `\\`: write `\cr` ({formula[:40]}...)."
    if cell.cell_type != "code":
        return
    unknown = set(source.tags(cell)) - {"parameters", "check", "figure", "method", "hide-input", "remove-cell"}
    if unknown:
        yield f"has unknown tags {sorted(unknown)}."
    is_check = "check" in source.tags(cell)
    if is_check != cell.source.startswith("# NBVAL_CHECK_OUTPUT"):
        yield "has to be tagged `check` and start with `# NBVAL_CHECK_OUTPUT`, or neither."
    if cell.get("outputs") and not is_check:
        yield "has outputs and is no `check` cell."
    if cell.get("outputs") and is_check and cell.execution_count is None:
        yield "has outputs and no execution count, which nbval refuses."
    if any(o.get("name") == "stderr" or o.output_type == "error" for o in cell.get("outputs", [])):
        yield "has an error or stderr among its outputs."
