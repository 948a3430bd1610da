"""A small checkout with tiny chapters, and the command line run in it as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

#: Seconds that a command may take on a machine that is busy with other things.
PATIENCE = 300

#: Two seeds of two arms, and a claim that the difference decides. The numbers depend on the seed and on `alpha` alone.
RECORD = """\
from IPython.display import display
seeds = [seed, seed + 1]
rows = {{"b": [float(s) for s in seeds], "a": [s + alpha + s % 3 / 10 for s in seeds]}}
arms = {{
    arm: {{"accuracy": {{"mean": sum(v) / 2, "low": min(v), "high": max(v), "values": v}}}} for arm, v in rows.items()
}}
values = [a - b for a, b in zip(rows["a"], rows["b"])]
difference = {{"mean": sum(values) / 2, "low": min(values) - 0.05, "high": max(values) + 0.05, "values": values}}
rule = {{"metric": "accuracy", "arm": "a", "baseline": "b", "margin": 0.0, "higher_is_better": True}}
verdict = "holds" if difference["low"] > 0 else "inconclusive"
claim = {{"role": "primary", "text": "a beats b", **rule, "seeds": seeds, "difference": difference, "verdict": verdict}}
record = {{"slug": "{slug}", "profile": "book", "claims": [claim], "arms": arms, "paper": []}}
display({{"application/vnd.papers.result+json": record, "text/plain": "record"}}, raw=True)"""


def notebook(slug: str, *cells: str):
    """A chapter: parameters, the given code cells, a result record."""
    parameters = "profile = None\nseed = 0\nalpha = 1.0\nname = 'one'"
    tagged = nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]})
    sources = [*cells, RECORD.format(slug=slug)]
    code = [nbformat.v4.new_code_cell(text, id=f"cell-{i}") for i, text in enumerate(sources)]
    title = nbformat.v4.new_markdown_cell(f"# {slug}", id="title")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=[title, tagged, *code], metadata=kernel)


class Checkout:
    """A folder with a copy of the package, a catalog and chapters."""

    PACKAGE = Path(__file__).resolve().parents[2] / "shared"

    def __init__(self, root: Path):
        self.root = root
        shutil.copytree(
            self.PACKAGE, root / "shared", ignore=shutil.ignore_patterns("__pycache__", "templates", "*.csv")
        )
        (root / "papers").mkdir()
        self.entries = []
        self.save_catalog()

    def save_catalog(self):
        (self.root / "papers" / "catalog.yml").write_text(yaml.safe_dump(self.entries))

    def add(self, slug: str, *cells: str) -> Path:
        """Add a chapter with these code cells; returns its source notebook."""
        words = {
            "short": slug,
            "title": f"On {slug}",
            "authors": ["A"],
            "year": 2020,
            "venue": "V",
            "claim": "a beats b",
        }
        self.entries.append({"slug": slug, **words})
        self.save_catalog()
        path = self.root / "papers" / f"{slug}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook(slug, *cells), path)
        return path

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start ``papers`` with these arguments."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PAPERS_", "PYTEST_"))}
        environment |= {"PYTHONPATH": str(self.root), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, "-m", "shared.runner", *arguments],
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def papers(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run ``papers`` with these arguments to its end."""
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def executed(self, slug: str, folder: str = "book/chapters"):
        """An executed notebook."""
        return nbformat.read(self.root / folder / f"{slug}.ipynb", as_version=4)

    def files(self, folder: str) -> list[str]:
        """All files below a folder, hidden ones too."""
        return sorted(str(p.relative_to(self.root / folder)) for p in (self.root / folder).rglob("*") if p.is_file())
