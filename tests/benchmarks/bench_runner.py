"""What the runner costs: `papers run` against `jupyter execute` in a loop, and a chapter's overhead over its kernel.

    python tests/benchmarks/bench_runner.py [--chapters graphs/dagnn tabular/hypertab ...] [--jobs 2]

Chapters run at smoke scale, from source to executed notebook, with both. Utilisation is how much of the command's time,
from its start to its end, each job had a chapter running, and how much of it the kernels computed. The overhead is
measured on a notebook of one cell: the time of the runner's task minus that of nbclient with the same interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.runner import execute

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = ["augmentation/randaugment", "graphs/dagnn", "mixing/resizemix", "tabular/gbnn", "tabular/hypertab"]


def overhead(repeats: int) -> tuple[float, float]:
    """Best seconds of a trivial notebook: as a task of the runner, and with nbclient alone."""
    parameters = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell("print(seed)")])
    text, ours, bare = nbformat.writes(notebook), [], []
    for _ in range(repeats):
        start = time.perf_counter()
        outcome = execute.execute(execute.Task("none/trivial", text, "smoke"))
        ours.append(time.perf_counter() - start)
        assert outcome.error is None, outcome.error
        start = time.perf_counter()
        nbclient.NotebookClient(nbformat.reads(text, as_version=4), kernel_name="python3").execute()
        bare.append(time.perf_counter() - start)
    return min(ours), min(bare)


def main():
    """Print overhead, utilisation, and the ratio of the two ways to run the chapters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chapters", nargs="*", default=CHAPTERS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    ours, bare = overhead(5)
    print(f"a trivial notebook: {ours:.2f} s here, {bare:.2f} s with nbclient: overhead {ours - bare:.2f} s a chapter")
    if not options.chapters:
        return
    environment = os.environ | {"PAPERS_PROFILE": "smoke", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shared.runner", "run", *options.chapters, "--profile", "smoke", "--json"]
        start = time.perf_counter()
        ran = subprocess.run(
            [*command, "--jobs", str(options.jobs), "--output", folder],
            cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        together = time.perf_counter() - start
        rows = json.loads(ran.stdout)
        running, computing = (
            sum(row[key] for row in rows) / together / options.jobs for key in ("duration_s", "cpu_s")
        )
        print(f"papers run, {len(rows)} chapters, {options.jobs} at once: {together:.1f} s")
        print(f"each job had a chapter running for {running:.0%} of the time; kernels computed for {computing:.0%}")
        start = time.perf_counter()
        for slug in options.chapters:
            execute_one = [sys.executable, "-m", "jupyter", "execute", str(ROOT / "papers" / f"{slug}.ipynb")]
            output = f"--output={Path(folder) / 'one.ipynb'}"
            subprocess.run([*execute_one, output], env=environment, check=True, capture_output=True, cwd=folder)
        loop = time.perf_counter() - start
        print(f"jupyter execute in a loop: {loop:.1f} s, {loop / together:.1f} times as long")


if __name__ == "__main__":
    main()
