"""A small book: the real manuscript and configuration around two made-up chapters, built once for all tests."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import nbformat
import pytest
import yaml
from filelock import FileLock
from PIL import Image, ImageDraw

from shared.experiment import Claim, interval
from shared.site.records import RECORD_TYPE

ROOT = Path(__file__).parents[2]

VERSIONS = {"python": "3.11.9", "torch": "2.15.0", "papers-rerun": "0.1.0"}

ALPHA = {
    "slug": "tabular/alpha-net",
    "short": "AlphaNet",
    "title": "AlphaNet: 100% of Tables & More",
    "authors": ["Ada Łukasz", "Bo Nguyễn"],
    "year": 2023,
    "venue": "Journal of Fixtures",
    "arxiv": "2301.00001",
    "code": "someone/alphanet",
    "family": ["ensembles"],
    "claim": "AlphaNet is more accurate than boosted trees on small tables.",
    "paper": [{"quantity": "Sonar, accuracy", "value": "87.1 %", "source": "Table 1"}],
    "data": {"smoke": ["sonar"], "book": ["sonar", "ionosphere"], "paper": ["sonar"]},
    "headline": "bigger",
    "figure": 1,
}
BETA = {
    "slug": "augmentation/beta",
    "short": "BetaAug",
    "title": "BetaAug",
    "authors": ["Cy Quine"],
    "year": 2020,
    "venue": "Workshop on Fixtures",
    "family": ["augmentation"],
    "claim": "BetaAug lowers the calibration error.",
    "data": {"book": ["mnist5k"]},
    "headline": "book",
    "figure": 0,
}
OPENING = """# Tables

```{papers-comparison}
:chapters: tabular/alpha-net
:run: bigger
:metric: accuracy
:called: accuracy on its table
:baseline: plain
```

```{papers-scoreboard} all
:part: tabular
```
"""


def png(colour: str) -> str:
    """A drawing of 720x240 pixels, as a notebook holds it."""
    image = Image.new("RGB", (720, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(40, 200), (200, 90), (420, 130), (680, 40)], fill=colour, width=6)
    draw.line([(40, 20), (40, 210), (700, 210)], fill="#333333", width=2)
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def claim(text: str, values: list[float], **options) -> dict:
    """A claim as the record holds it, with the interval and the verdict of these paired differences."""
    declared = Claim(text, **({"metric": "accuracy", "arm": "method", "baseline": "plain"} | options))
    difference = interval(values)
    return vars(declared) | {
        "seeds": list(range(len(values))),
        "difference": difference.as_dict(),
        "verdict": declared.judge(difference),
    }


def record(entry: dict, claims: list[dict], plain: float) -> dict:
    """A result record of two arms, the second better by the first claim's difference."""
    metric, values = claims[0]["metric"], claims[0]["difference"]["values"]
    arms = {
        "plain": {metric: interval([plain] * len(values)).as_dict()},
        "method": {metric: interval([plain + value for value in values]).as_dict()},
    }
    assert mean(values) == pytest.approx(claims[0]["difference"]["mean"])
    return {"slug": entry["slug"], "profile": "book", "claims": claims, "arms": arms, "paper": entry.get("paper", [])}


def provenance(entry: dict, **changes) -> dict:
    """metadata.papers of a run."""
    return {
        "slug": entry["slug"],
        "profile": "book",
        "seed": 0,
        "parameters": {"profile": "book", "seed": 0},
        "source_sha256": "a" * 64,
        "shared_sha256": "b" * 64,
        "lock_sha256": "c" * 64,
        "duration_s": 131.2,
        "cpu_s": 120.4,
        "peak_memory_mb": 712.4,
        "device": "cpu",
        "cpu": "Fixture CPU @ 2.00GHz",
        "versions": VERSIONS,
        "finished": "2026-11-23T15:04:05Z",
    } | changes


def code(source: str, *outputs: dict, tags: tuple[str, ...] = ()):
    """A code cell with rich outputs."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})
    cell.outputs = [nbformat.v4.new_output("display_data", **output) for output in outputs]
    cell.execution_count = 1
    return cell


def figure(colour: str, alt: str) -> dict:
    """A figure output with its alternative text."""
    data = {"image/png": png(colour), "text/plain": f"[figure: {alt}]"}
    return {"data": data, "metadata": {"image/png": {"alt": alt}}}


def notebook(entry: dict, result: dict, metadata: dict, *figures: dict):
    """An executed chapter with the sections of the book."""
    md = nbformat.v4.new_markdown_cell
    table = '<div class="papers-scroll"><table class="papers-table"><tr><th scope="col">arm</th></tr></table></div>'
    cells = [
        md(f"# {entry['short']}: a chapter\n\n*{entry['title']}*"),
        code("profile = None\nseed = 0", tags=("parameters",)),
        code('# Parameters\nprofile = "book"', tags=("injected-parameters",)),
        md("## The claim\n\n> A claim."),
        md("## The idea\n\nAn equation in text, $a^2+b^2$, and one alone:\n\n$$\\sum_i w_i x_i = 1 \\tag{1}$$"),
        code("draw()", *figures),
        md("## Checks\n\n## Results"),
        code("chapter.results_table(results)", {"data": {"text/html": table, "text/plain": "arm"}}),
        code("chapter.verdicts(results)", {"data": {RECORD_TYPE: result, "text/plain": "Result record"}}),
        md("What happened.\n\n## What differs from the paper\n\nSize.\n\n## Try it\n\n1. Something."),
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["papers"] = metadata
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return book


@dataclass(frozen=True)
class Book:
    """A built book: its folder, and the records of the made-up chapters."""

    folder: Path
    main: dict | None = None
    headline: dict | None = None
    beta: dict | None = None

    @property
    def html(self) -> Path:
        """The root of the built site."""
        return self.folder / "build" / "_build" / "html"


def make_book(folder: Path) -> tuple[dict, dict, dict]:
    """Write manuscript, catalog, toc and two chapters (one with a labelled run) into a folder; returns the records."""
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("chapters", "runs", "parts"))
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "papers").mkdir()
    (folder / "papers" / "catalog.yml").write_text(yaml.safe_dump([ALPHA, BETA]), encoding="utf-8")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    toc["parts"] = [part for part in toc["parts"] if not part["chapters"][-1]["file"].startswith("chapters/")]
    files = ["parts/tabular", *(f"chapters/{entry['slug']}" for entry in (BETA, ALPHA))]
    toc["parts"].append({"caption": "Chapters", "chapters": [{"file": file} for file in files]})
    (folder / "book" / "parts").mkdir()
    (folder / "book" / "parts" / "tabular.md").write_text(OPENING, encoding="utf-8")
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")

    better = [0.021, 0.034, 0.012, 0.041, 0.027]
    worse = [-0.004, 0.006, -0.013, 0.009, -0.002]
    mechanism = claim("without its trees it is no better", [-0.021, -0.032, -0.015, -0.044, -0.029], role="mechanism")
    text = "AlphaNet is more accurate than boosted trees"
    main = record(ALPHA, [claim(text, worse), mechanism], 0.81)
    headline = record(ALPHA, [claim(text, better), mechanism], 0.71)
    calibration = claim(
        "BetaAug has a lower calibration error",
        [-0.052, -0.061, -0.047, -0.058, -0.066, -0.049],
        metric="calibration error",
        higher_is_better=False,
        margin=0.01,
    )
    beta = record(BETA, [calibration], 0.2)
    alpha_figures = figure("#0072B2", "A falling line"), figure("#D55E00", "A line that rises from left to right")
    books = {
        ALPHA["slug"]: notebook(ALPHA, main, provenance(ALPHA), *alpha_figures),
        BETA["slug"]: notebook(BETA, beta, provenance(BETA, duration_s=52.0), figure("#009E73", "Green, not <plain>")),
    }
    for slug, chapter in books.items():
        path = folder / "book" / "chapters" / f"{slug}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(chapter, path)
    parameters = {"dataset": "phoneme", "seed": 3}
    run = {
        "label": "bigger",
        "record": headline,
        "metadata": provenance(ALPHA, parameters=parameters, seed=3, device="cuda (Fixture GPU)", duration_s=8000.0),
    }
    path = folder / "book" / "runs" / "bigger" / f"{ALPHA['slug']}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(run), encoding="utf-8")
    return main, headline, beta


def build(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Build the book in a folder, with the command that the Makefile uses."""
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", "book", "--config", "_config.yml", "--toc", str(folder / "_toc.yml")]
    command += ["--path-output", "build", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # this checkout's extension, whatever is installed
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, env=environment)


def built(folder: Path) -> None:
    """Build a book, with warnings as errors."""
    done = build(folder, "-W", "--keep-going")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Book:
    """The built book of two made-up chapters."""
    folder = tmp_path_factory.mktemp("book")
    records = make_book(folder)
    built(folder)
    return Book(folder, *records)


@pytest.fixture(scope="session")
def real_book(tmp_path_factory) -> Book:
    """The built book, with the chapters as they are published; built once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real-book"
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(ROOT / "book", folder / "book")
            (folder / "papers").mkdir()
            for path in ("_config.yml", "_toc.yml", "papers/catalog.yml"):
                shutil.copy(ROOT / path, folder / path)
            built(folder)
            (folder / "built").touch()
    return Book(folder)


@pytest.fixture(scope="session", params=["book", "real_book"])
def any_book(request) -> Book:
    """Both of them, one after the other."""
    return request.getfixturevalue(request.param)
