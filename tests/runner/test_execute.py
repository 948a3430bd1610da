"""One notebook in a kernel of its own: what it sees, what is kept, how it fails."""

import itertools
import json
import re
import sys
import time

import nbformat
import pytest

from shared.runner import execute, source
from tests.runner.checkout import notebook


def run(*cells, **options):
    """Run a notebook with these cells at smoke scale."""
    task = execute.Task(
        slug="tabular/tiny", text=nbformat.writes(notebook("tabular/tiny", *cells)), profile="smoke", **options
    )
    return execute.execute(task)


def texts(outcome):
    """What each code cell printed."""
    cells = nbformat.reads(outcome.text, as_version=4).cells
    return ["".join(o.get("text", "") for o in cell.outputs) for cell in cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def ran():
    """A chapter that says what it sees, with a parameter given."""
    look = "import os, sys\nprint(sys.executable == {!r}, alpha, {})"
    seen = "*(os.environ.get(k) for k in ('OMP_NUM_THREADS', 'PYTHONHASHSEED', 'PAPERS_PROFILE', 'PAPERS_PROGRESS'))"
    cells = (
        look.format(sys.executable, seen),
        "import warnings\nfrom tqdm.auto import tqdm\nwarnings.warn('careful')\nprint('noise', file=sys.stderr)",
        "os.environ['PAPERS_CATALOG_ENTRY']",
        "x = bytearray(200_000_000)",
    )
    return run(*cells, parameters={"alpha": 2.5}, entry='{"slug": "tabular/tiny"}', lock_sha256="abc")


def test_a_kernel_is_the_workers_own_interpreter_with_one_thread_and_fixed_hashes(ran):
    assert ran.error is None
    assert texts(ran)[2] == "True 2.5 1 0 smoke 0\n"


def test_the_catalog_entry_reaches_the_kernel(ran):
    cells = nbformat.reads(ran.text, as_version=4).cells
    assert cells[5].outputs[0].data["text/plain"] == repr('{"slug": "tabular/tiny"}')


def test_stderr_is_kept_out_of_the_notebook_and_handed_over(ran):
    assert "careful" in ran.stderr and "noise" in ran.stderr
    assert "IProgress" not in ran.stderr, "widgets for bars that are not drawn"
    assert [
        o.name for cell in nbformat.reads(ran.text, as_version=4).cells for o in cell.get("outputs", []) if "name" in o
    ] == ["stdout"]


def test_cells_keep_ids_and_metadata_and_get_no_others(ran):
    executed = nbformat.reads(ran.text, as_version=4)
    nbformat.validate(executed)
    assert [cell.id for cell in executed.cells] == [
        "title", "parameters", "injected-parameters", "cell-0", "cell-1", "cell-2", "cell-3", "cell-4",
    ]  # fmt: skip
    assert [dict(cell.metadata) for cell in executed.cells[3:]] == [{}] * 5
    assert set(executed.metadata) == {"kernelspec", "language_info", "papers"}
    assert "version" not in executed.metadata.language_info


def test_provenance_is_complete(ran):
    papers = json.loads(ran.text)["metadata"]["papers"]
    assert papers == ran.metadata
    original = notebook("tabular/tiny", *[c.source for c in nbformat.reads(ran.text, as_version=4).cells[3:-1]])
    assert papers["source_sha256"] == source.source_sha256(original)
    assert papers["parameters"] == {"alpha": 2.5, "name": "one"}
    assert (papers["slug"], papers["profile"], papers["seed"]) == ("tabular/tiny", "smoke", 0)
    assert (papers["lock_sha256"], papers["device"]) == ("abc", "cpu")
    assert 200 < papers["peak_memory_mb"] < 1000  # the cell's 200 MB and Python itself
    assert 0.2 < papers["cpu_s"] < papers["duration_s"] * 2  # starting a kernel takes a while
    assert papers["finished"].endswith("+00:00") and papers["cpu"] and papers["duration_s"] > 0
    assert papers["versions"]["torch"].startswith("2.") and "python" in papers["versions"]


def test_a_failing_cell_is_named_with_the_last_line_of_its_error():
    outcome = run("print('before')", "raise ValueError('one\\ntwo')", "print('after')")
    assert outcome.error == "tabular/tiny: cell 3 of 5 failed: two"
    assert "raise ValueError" in outcome.traceback and "\x1b" not in outcome.traceback
    assert texts(outcome)[1] == "before\n" and "after\n" not in texts(outcome)


DEAF = """\
import os, signal, time
print("no")
time.sleep(0.5)
while True:
    try:
        {}
    except KeyboardInterrupt:
        pass"""


@pytest.mark.parametrize("doing", ["time.sleep(1)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_cell_that_will_not_be_interrupted_is_killed(monkeypatch, doing):
    monkeypatch.setattr(execute, "GRACE", 0.5)
    outcome = run(DEAF.format(doing), timeout=1)
    assert outcome.error.startswith("tabular/tiny: cell 2 of 3 took longer than 1 s")
    assert "no\n" in texts(outcome)


def test_a_cell_that_hangs_has_the_time_of_its_profile(monkeypatch):
    assert execute.TIMEOUTS["smoke"] < execute.TIMEOUTS["book"] < execute.TIMEOUTS["paper"]
    monkeypatch.setitem(execute.TIMEOUTS, "smoke", 1.5)
    outcome = run("import time\ntime.sleep(1000)")
    assert (
        outcome.error == "tabular/tiny: cell 2 of 3 took longer than 1.5 s: make it shorter or give a larger --timeout."
    )
    assert "----> 2 time.sleep(1000)" in outcome.traceback


def test_a_clock_that_jumps_changes_no_duration(monkeypatch):
    real, jumps = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + 86400 * (-1) ** next(jumps))
    outcome = run("import time\ntime.sleep(0.5)", timeout=60)
    assert outcome.error is None and 0.5 < outcome.metadata["duration_s"] < 60


def test_a_cache_that_is_deleted_during_a_run_is_filled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_CACHE", str(tmp_path / "cache"))
    cells = (
        "import shutil\nfrom shared.data import cache",
        "def make(path):\n    print('made')\n    path.write_text('content')",
        "print(cache.built('tiny/x', make).read_text(), cache.built('tiny/x', make).read_text())",
        "shutil.rmtree(cache.directory())\nprint(cache.built('tiny/x', make).read_text())",
    )
    outcome = run(*cells)
    assert outcome.error is None, outcome.traceback
    assert texts(outcome)[3:5] == ["made\ncontent content\n", "made\ncontent\n"]


def test_a_cache_that_goes_while_it_is_written_to_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_CACHE", str(tmp_path / "cache"))
    lose = "def lose(path):\n    shutil.rmtree(cache.directory())\n    path.write_text('content')"
    outcome = run(f"import shutil\nfrom shared.data import cache\n{lose}\ncache.built('tiny/x', lose)")
    assert "CacheError" in outcome.error and "was deleted while it was in use: run this again." in outcome.error


def test_a_line_without_end_is_cut_as_soon_as_it_is_too_long():
    outcome = run("while True:\n    print('x' * 1000, end='')", output_limit=1_000_000)
    assert "cell 2 of 3 was stopped, since the notebook showed more than 1 MB: print less." in outcome.error
    assert texts(outcome)[1] == "x" * 1_000_000 + "\n[output cut: it went over the limit]\n"


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (["10%", "\r20%", "\r30%\n", "done\n"], "30%\ndone\n"),
        (["one\r\ntwo\r\n"], "one\r\ntwo\r\n"),
        (["a\r", "b\r\nc\r"], "b\r\nc\r"),
        (["", "\r", "\n"], "\r\n"),
        (["a\r\r"], "\r"),
    ],
)
def test_text_that_is_drawn_over_is_left_out(printed, kept):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in printed]
    between = nbformat.v4.new_output("display_data", data={"text/plain": "picture"})
    error = nbformat.v4.new_output("stream", name="stderr", text="!")
    merged = execute.merge_streams([outputs[0], between, error, *outputs[1:]])
    assert [output.get("text") for output in merged] == [kept, None, "!"]
    # as nbclient has it
    assert re.sub(r".*\r(?=[^\n])", "", "".join(printed)) == kept


def test_a_kernel_that_dies_is_not_waited_for():
    outcome = run("import os\nos.kill(os.getpid(), 9)")
    assert "the kernel died in cell 2 of 3" in outcome.error and "--jobs" in outcome.error


def test_a_path_of_the_machine_in_an_output_fails_the_chapter():
    outcome = run("import os\nprint('I am in', os.getcwd())")
    assert "cell 2 shows /" in outcome.error and "a path of this machine: print names, not paths" in outcome.error


@pytest.mark.parametrize(
    ("output", "leaks"),
    [
        ({"text/plain": "'/scratch/me/x.py'"}, True),
        ({"text/html": "<i>/scratch/me</i>"}, True),
        ({"image/svg+xml": "<a href='/scratch/me/x'/>"}, True),
        ({"application/json": {"path": ["/scratch/me/x"]}}, True),
        ({"image/png": "AAAA/scratch/me/AAAA"}, False),
        ({"text/html": "<img src='data:image/png;base64,AA/scratch/me/AA'>"}, False),
        ({"text/plain": "https://a.b/scratch/me and ../scratch/me and /scratch/mean"}, False),
    ],
)
def test_where_a_path_of_the_machine_is_looked_for(output, leaks):
    tiny = notebook("x/y", "1")
    tiny.cells[2].outputs = [nbformat.v4.new_output("display_data", data=output)]
    assert bool(execute.find_leak(tiny, ["/scratch/me", "/"])) == leaks


def test_threads_and_gpus_of_the_kernel(tmp_path, monkeypatch):
    def environment(worker_name=None, **options):
        task = execute.Task(slug="x/y", text=nbformat.writes(notebook("x/y")), **options)
        return execute.Run(task, print, tmp_path, worker_name).environment()

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Dask's workers have it
    monkeypatch.setenv("PAPERS_CATALOG_ENTRY", "another chapter's")
    assert environment(profile="book", threads=8)["OMP_NUM_THREADS"] == "1"
    assert environment(profile="paper", threads=8)["OMP_NUM_THREADS"] == "8"
    assert "OMP_NUM_THREADS" not in environment(profile="paper")
    assert "PAPERS_CATALOG_ENTRY" not in environment(profile="book")
    seen = [environment(name, profile="paper", gpus=("4", "6"))["CUDA_VISIBLE_DEVICES"] for name in "012"]
    assert seen == ["4", "6", "4"]  # a local cluster names its workers 0, 1, 2
