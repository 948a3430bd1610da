"""``papers run`` from end to end: good and bad chapters, lost workers, interrupts, schedulers."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import nbformat
import psutil
import pytest
from distributed import KilledWorker

from shared.runner import batch, display, provenance
from shared.runner.execute import Outcome
from tests.runner.checkout import PATIENCE, Checkout, notebook

# What a chapter does to the worker that runs it, once: the kernel's parent process is killed.
KILL_WORKER = """\
import os, pathlib, signal, time
marker = pathlib.Path({!r})
if not marker.exists():
    marker.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
print("second time")"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A checkout in which good and bad chapters ran together; also what the command said."""
    checkout = Checkout(tmp_path_factory.mktemp("mixed") / "checkout")
    checkout.add("tabular/good", "print('alpha is', alpha, 'seed is', seed)")
    checkout.add("tabular/fails", "print('before')", "1 / 0", "print('after')")
    checkout.add("graphs/endless", "while True:\n    print('x' * 1000)")
    checkout.add("graphs/hangs", "import time\ntime.sleep(1000)")
    checkout.add("graphs/unlucky", KILL_WORKER.format(str(checkout.root / "marker")))
    return checkout, checkout.papers("run", "--jobs", "2", "--timeout", "8", "-p", "alpha", "3", "--seed", "7")


def test_failures_do_not_stop_the_others_and_are_named(mixed):
    checkout, ended = mixed
    assert ended.returncode == 1, ended.stderr
    assert checkout.files("runs/book-seed=7-alpha=3") == [
        "graphs/endless.failed.ipynb",
        "graphs/endless.traceback.txt",
        "graphs/hangs.failed.ipynb",
        "graphs/hangs.traceback.txt",
        "graphs/unlucky.ipynb",
        "tabular/fails.failed.ipynb",
        "tabular/fails.traceback.txt",
        "tabular/good.ipynb",
    ]
    assert "3 failed: graphs/endless, graphs/hangs, tabular/fails." in ended.stdout
    assert "tabular/fails: cell 3 of 5 failed: ZeroDivisionError: division by zero" in ended.stdout


def test_parameters_and_seed_arrive(mixed):
    checkout, _ = mixed
    good = checkout.executed("tabular/good", "runs/book-seed=7-alpha=3")
    assert good.cells[3].outputs[0].text == "alpha is 3.0 seed is 7\n"
    assert good.metadata.papers.seed == 7 and good.metadata.papers.parameters == {"alpha": 3.0, "name": "one"}


def test_a_failed_chapter_keeps_what_it_did_and_its_traceback(mixed):
    checkout, _ = mixed
    half = checkout.executed("tabular/fails.failed", "runs/book-seed=7-alpha=3")
    assert half.cells[3].outputs[0].text == "before\n" and half.cells[5].outputs == []
    trace = (checkout.root / "runs/book-seed=7-alpha=3/tabular/fails.traceback.txt").read_text()
    assert "----> 1 1 / 0" in trace and "\x1b" not in trace


def test_endless_output_is_cut_and_said_to_be(mixed):
    checkout, ended = mixed
    assert "graphs/endless: cell 2 of 3 was stopped, since the notebook showed more than 4 MB" in ended.stdout
    half = checkout.executed("graphs/endless.failed", "runs/book-seed=7-alpha=3")
    text = "".join(output.get("text", "") for output in half.cells[3].outputs)
    assert 3_900_000 < len(text) < 4_100_000 and text.rstrip().endswith("[output cut: it went over the limit]")


def test_a_cell_that_hangs_is_stopped(mixed):
    checkout, ended = mixed
    assert "graphs/hangs: cell 2 of 3 took longer than 8 s" in ended.stdout
    trace = (checkout.root / "runs/book-seed=7-alpha=3/graphs/hangs.traceback.txt").read_text()
    assert "----> 2 time.sleep(1000)" in trace  # where it was


def test_a_killed_workers_chapter_runs_again(mixed):
    checkout, ended = mixed
    assert "graphs/unlucky: its worker was lost, runs again on another one" in ended.stdout
    assert checkout.executed("graphs/unlucky", "runs/book-seed=7-alpha=3").cells[3].outputs[0].text == "second time\n"


def test_nothing_of_it_is_published_or_left_behind(mixed):
    checkout, ended = mixed
    assert checkout.files("book") == []
    assert "Warning" not in ended.stderr and "Traceback" not in ended.stderr
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(checkout.root) in " ".join(p.info["cmdline"] or [])]


def read_until(process, words):
    """Lines of a process up to one that holds these words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was not said: {lines}, {process.stderr.read()}")


@pytest.mark.parametrize(("sign", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_leaves_published_chapters_as_they_were(checkout, sign, whole_group):
    checkout.add("graphs/slow", "print('before')", "import time\ntime.sleep(200)")
    checkout.add("graphs/waits", "print('never')")
    published = checkout.root / "book/chapters/graphs/slow.ipynb"
    published.parent.mkdir(parents=True)
    published.write_text("as it was")
    process = checkout.start("run", "slow", "waits", "--jobs", "1", start_new_session=True)
    read_until(process, "graphs/slow: started")
    time.sleep(1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("ipykernel_launcher" in child.cmdline() for child in children)
    (os.killpg if whole_group else os.kill)(process.pid, sign)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Interrupted: 0 of 2 chapters were finished" in stderr and "Traceback" not in stdout + stderr
    assert published.read_text() == "as it was" and checkout.files("book") == ["chapters/graphs/slow.ipynb"]
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert re.search(r"Half-executed: graphs/slow, in \S+failed", stderr)
    assert checkout.files("runs") == ["failed/graphs/slow.failed.ipynb", "failed/graphs/slow.traceback.txt"]
    half = checkout.executed("graphs/slow.failed", "runs/failed")
    assert half.cells[2].outputs[0].text == "before\n" and half.cells[3].outputs == []
    trace = (checkout.root / "runs/failed/graphs/slow.traceback.txt").read_text()
    assert trace.startswith("graphs/slow: cell 3 of 4 was stopped, since the batch was interrupted.")


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers started by themselves, as on three machines: each has a folder, a home and a
    cache of its own. Yields the address, the workers' processes and their folders.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    package = str(Checkout.PACKAGE.parent)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PAPERS_")} | {"PYTHONPATH": package}
    processes = []

    def start(name, *arguments):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-m", "distributed.cli.dask_" + name.split("-")[0], *arguments, "--no-dashboard"]
        own = environment | {"HOME": str(folder), "PAPERS_CACHE": str(folder / f"cache-of-{name}")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, cwd=folder, env=own, start_new_session=True, **quiet))

    start("scheduler", "--host", "127.0.0.1", "--port", str(port))
    for name in ("worker-1", "worker-2"):
        start(name, address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--name", name)
    yield address, processes[1:], [tmp_path / "worker-1", tmp_path / "worker-2"]
    for process in processes:
        process.kill()
        process.wait()


USE_CACHE = """\
import time
from shared.data import cache
data = cache.built("made/{0}", lambda path: path.write_text("data of {0}")).read_text()"""


def test_an_existing_cluster_runs_chapters_and_may_lose_a_worker(checkout, cluster):
    address, workers, folders = cluster
    for name in ("one", "two"):
        checkout.add(f"graphs/{name}", USE_CACHE.format(name), "time.sleep(4)\nprint(cache.directory().name, data)")
    process = checkout.start("run", "graphs", "--scheduler", address)
    lines = read_until(process, "started")
    lines += read_until(process, "started")
    kernels = psutil.Process(workers[0].pid).children()
    assert len(kernels) == 1 and len(psutil.Process(workers[1].pid).children()) == 1  # one chapter each
    assert all(str(checkout.root) not in kernel.cwd() for kernel in kernels)
    filled = [folder / f"cache-of-{folder.name}" / "made" for folder in folders]
    deadline = time.monotonic() + PATIENCE
    while not all(place.exists() and list(place.iterdir()) for place in filled) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(list(filled[0].iterdir())) == len(list(filled[1].iterdir())) == 1  # each chapter's data, where it runs
    workers[0].kill()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stdout + stderr
    assert stdout.count("its worker was lost, runs again") == 1
    assert checkout.files("book") == ["chapters/graphs/one.ipynb", "chapters/graphs/two.ipynb"]
    assert sorted(path.name for path in filled[1].iterdir()) == ["one", "two"]  # made again, not fetched from the dead
    for name in ("one", "two"):
        executed = checkout.executed(f"graphs/{name}")
        assert executed.cells[3].outputs[0].text == f"cache-of-worker-2 data of {name}\n"
        assert str(checkout.root) not in nbformat.writes(executed)


class Ended:
    """A future that has ended, with a result or an exception."""

    def __init__(self, result):
        self._result = result

    def result(self):
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


TASK = batch.Task("graphs/one", nbformat.writes(notebook("graphs/one")), "smoke")


def test_a_chapter_that_takes_its_workers_down_again_and_again_is_failed():
    outcome = batch.outcome_of(Ended(KilledWorker("key", None, 4)), TASK)
    assert outcome.text is None and "graphs/one: the workers that ran it died, again and again" in outcome.error


def test_a_worker_that_cannot_unpack_a_task_fails_its_chapter():
    outcome = batch.outcome_of(Ended(ModuleNotFoundError("No module named 'shared'")), TASK)
    assert outcome.error == ("graphs/one: its worker could not run it: ModuleNotFoundError: No module named 'shared'")


@pytest.mark.parametrize("told", [False, True])
def test_a_worker_with_other_code_is_told_of(told):
    here = provenance.shared_sha256(notebook("graphs/one"))
    ended = Ended(Outcome("graphs/one", "{}", {"shared_sha256": "0" * 64 if told else here}))
    outcome = batch.outcome_of(ended, TASK)
    assert outcome.error is None and ("another version of the shared package" in outcome.stderr) == told


def test_the_table_on_a_terminal_shows_chapter_cell_time_and_memory():
    from rich.console import Console

    console = Console(force_terminal=True, width=80, file=open(os.devnull, "w"))
    with display.Progress(console, ["graphs/one", "graphs/two"]) as progress:
        event = {"name": "graphs/one", "worker": "0 1", "cell": 2, "cells": 9, "memory_mb": 123.4}
        threading.Thread(target=progress.event, args=(event,)).start()
        time.sleep(0.1)
        plain = Console(width=80, file=open(os.devnull, "w"), record=True)
        plain.print(progress.table())
        text = plain.export_text()
    assert "graphs/one" in text and "2 of 9" in text and "0:00" in text and "123 MB" in text and "1 waiting" in text
