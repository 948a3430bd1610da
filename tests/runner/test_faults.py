"""Faults of the machine: a full disk, two batches at once, a clock that jumps."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from distributed import Client

from shared.runner import batch, execute, store
from tests.runner.checkout import PATIENCE, Checkout, notebook

SHELL = """\
mount -t tmpfs -o size=400k tmpfs {output} || exit 77
"$@"
echo "exit status $?"
find {output} -type f | sort
"""


@pytest.fixture
def small_disk(tmp_path):
    """A folder, and a function that runs a command with a disk of 400 kB mounted there, which only the command sees."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def run(*command, cwd, env):
        shell = ["sh", "-c", SHELL.format(output=folder), "sh", *command]
        namespace = ["unshare", "--user", "--map-root-user", "--mount"]
        return subprocess.run(
            [*namespace, *shell], cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("a small disk needs Linux and unshare")
    if run("true", cwd=tmp_path, env=None).returncode:
        pytest.skip("this system lets no user mount a disk of its own")
    return folder, run


def test_a_full_disk_fails_what_does_not_fit_and_keeps_the_rest(tmp_path, small_disk):
    """A real disk: the batch goes on, says what did not fit, and leaves no half-written file."""
    folder, run = small_disk
    checkout = Checkout(tmp_path / "checkout")
    checkout.add("graphs/large", "print('x' * 600_000)")
    checkout.add("graphs/small", "print('fits')")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PAPERS_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(checkout.root), "COLUMNS": "200"}
    command = [sys.executable, "-m", "shared.runner", "run", "graphs", "--output", str(folder), "--jobs", "1"]
    ended = run(*command, cwd=checkout.root, env=environment)
    said, _, files = ended.stdout.partition("exit status ")
    assert "large.ipynb cannot be written (No space left on device): make room there or choose another --output" in said
    assert files.split() == ["1", str(folder / "graphs/small.ipynb")], ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


FILL = """\
import pathlib, tempfile
from shared.runner import execute
folder = pathlib.Path(tempfile.gettempdir())  # there is room when the worker starts, and none when the chapter does
try:
    (folder / "ballast").write_bytes(bytes(10**6))
except OSError:
    print(execute.execute(execute.Task("graphs/one", {!r}, "smoke")).error)"""


def test_a_disk_for_temporary_files_that_fills_up_fails_the_chapter_with_the_reason(small_disk):
    folder, run = small_disk
    root = str(Checkout.PACKAGE.parent)
    command = [sys.executable, "-c", FILL.format(nbformat.writes(notebook("graphs/one")))]
    said = run(*command, cwd=root, env=os.environ | {"PYTHONPATH": root, "TMPDIR": str(folder)}).stdout
    assert "graphs/one: could not be run: OSError: [Errno 28] No space left on device" in said


def outcomes(mark: str):
    """What two chapters leave, each with this mark all over it."""
    for slug in ("graphs/one", "graphs/two"):
        executed = notebook(slug, *[f"'{mark}'"] * 40)
        yield execute.Outcome(slug, nbformat.writes(executed), {"slug": slug, "mark": mark})


def keep_many(root: str, mark: str, failing: bool):
    """Store the outcomes of a batch again and again; every fifth time, if told so, as failures."""
    destination = store.destination(store.Path(root), "smoke", 0, {}, None, None)
    for turn in range(10):
        destination.check()
        for outcome in outcomes(mark):
            outcome.error = "bad luck" if failing and turn % 5 == 4 else None
            destination.keep(outcome)


def test_two_batches_that_write_to_one_folder_leave_whole_files(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=keep_many, args=(str(tmp_path), mark, mark == "b")) for mark in "ab"]
    for writer in writers:
        writer.start()
    looked = 0
    while any(writer.is_alive() for writer in writers):
        for path in tmp_path.glob("runs/smoke/graphs/*.ipynb"):
            try:
                cells = json.loads(path.read_text())["cells"]
            except FileNotFoundError:  # a batch took its failed notebook away
                continue
            assert (
                len({"".join(cell["source"]) for cell in cells[2:-1]}) == 1
            )  # of one batch, from the first to the last line
            looked += 1
        time.sleep(0.01)
    assert looked and [writer.exitcode for writer in writers] == [0, 0]
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in left if "failed" not in name and "traceback" not in name] == ["one.ipynb", "two.ipynb"]


def test_two_batches_at_once_both_publish(checkout):
    """The whole way: the same chapter in two processes, which share folders, cache and machine."""
    checkout.add("graphs/one", "print(alpha)")
    both = [checkout.start("run", "--jobs", "1") for _ in range(2)]
    for process in both:
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, stdout + stderr
    assert checkout.files("book") == ["chapters/graphs/one.ipynb"] and checkout.files("runs") == []
    assert checkout.executed("graphs/one").cells[2].outputs[0].text == "1.0\n"


# Python imports a module of this name when it starts: from the third second on, every process here is a day ahead.
JUMP = """\
import time
real, start = time.time, time.monotonic()
time.time = lambda: real() + (86400 if time.monotonic() - start > 3 else 0)
"""


def test_a_clock_that_jumps_while_a_batch_runs_changes_nothing(checkout):
    checkout.add("graphs/one", "import time\nbefore = time.time()\ntime.sleep(4)\nprint(time.time() - before > 80_000)")
    (checkout.root / "sitecustomize.py").write_text(JUMP)
    ended = checkout.papers("run", "--jobs", "1", "--profile", "smoke")
    assert ended.returncode == 0, ended.stderr
    executed = checkout.executed("graphs/one", "runs/smoke")
    assert executed.cells[2].outputs[0].text == "True\n" and 4 < executed.metadata.papers.duration_s < 1000
    assert "lost" not in ended.stdout


def test_workers_on_this_machine_are_not_taken_for_dead_by_the_clock(monkeypatch):
    with batch.local_cluster(1) as cluster, Client(cluster):
        assert cluster.scheduler.worker_ttl is None and "worker-ttl" not in cluster.scheduler.periodic_callbacks
