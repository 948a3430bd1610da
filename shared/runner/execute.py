"""One notebook, run by papermill in a kernel of its own: text in, text out.

Nothing here needs a checkout: a worker on another machine has the installed package and gets the rest in its task.
"""

import ast
import asyncio
import contextlib
import copy
import dataclasses
import datetime
import functools
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from shared.runner import provenance, source

#: Seconds that one cell may take.
TIMEOUTS = {"smoke": 120, "book": 1800, "paper": 48 * 3600}

#: Seconds from interrupting a kernel to killing it.
GRACE = 15

#: Bytes that one notebook may print or show before it is stopped.
OUTPUT_LIMIT = 4_000_000

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: Asked of the kernel after its last cell: the device that the chapter computed on, and its peak memory in MB.
DEVICE_EXPRESSION = (
    "(lambda torch, d: (torch.cuda.get_device_name(d), torch.cuda.max_memory_allocated(d) / 1e6)"
    " if d.startswith('cuda') else (d, None))"
    "(__import__('sys').modules.get('torch'), str(getattr(globals().get('chapter'), 'device', 'cpu')))"
)

_runs: dict[str, list["Run"]] = {}  # run id -> what this process runs of that batch


@dataclasses.dataclass
class Task:
    """A chapter to run, complete: what a worker gets.

    text: the source notebook. parameters: values to inject, already of the right kind. entry: the chapter's catalog
    entry as JSON. timeout: seconds a cell may take (None: the profile's). threads: CPU threads in profile `paper`
    (None: as many as the machine has). gpus: names of this machine's GPUs as in CUDA_VISIBLE_DEVICES, to be shared out
    among local workers. lock_sha256: hash of the lock file where the task was made. run_id: names the batch. name: of
    this run in the batch, by default the slug.
    """

    slug: str
    text: str
    profile: str
    seed: int = 0
    parameters: dict = dataclasses.field(default_factory=dict)
    entry: str | None = None
    timeout: float | None = None
    output_limit: int = OUTPUT_LIMIT
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    lock_sha256: str | None = None
    run_id: str = ""
    name: str = ""

    def __post_init__(self):
        self.name = self.name or self.slug


@dataclasses.dataclass
class Outcome:
    """What became of a task.

    name: the task's. text: the executed notebook (half of it when the chapter failed), with its provenance in
    ``metadata.papers``. error: None, or one sentence that names chapter, cell and reason. traceback: the whole of it.
    stderr: what the chapter wrote there; it is not in the notebook of a chapter that ran to its end.
    """

    name: str
    text: str | None
    metadata: dict
    error: str | None = None
    traceback: str = ""
    stderr: str = ""

    @functools.cached_property
    def record(self) -> dict | None:
        """The result record that the executed notebook shows, or None."""
        return source.result_record(nbformat.reads(self.text, as_version=4)) if self.text else None


class WorkerKernelManager(AsyncKernelManager):
    """Starts the very interpreter that asks, whatever kernels are installed, and talks to it without TCP."""

    def __init__(self, **kwargs):
        """Take the options of the base class."""
        super().__init__(**kwargs)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self._kernel_spec = KernelSpec(argv=argv, language="python", display_name="Python 3")
        if sys.platform != "win32":
            self.transport = "ipc"


class ChapterClient(PapermillNotebookClient):
    """Papermill's client with a limit on output, and a look at the kernel before it goes."""

    def __init__(self, nb_man, run, **kwargs):
        """Serve a :class:`Run`; the other options are the base class's."""
        super().__init__(nb_man, on_cell_start=run.cell_started, **kwargs)
        self.run = run

    def create_kernel_manager(self):
        """The kernel that this worker starts: its own interpreter."""
        self.km = WorkerKernelManager(connection_file=str(self.run.folder / "k.json"))
        return self.km

    def papermill_execute_cells(self):
        """Run all cells, watched, then ask for the device."""
        self.run.kernel_started(self.km.provisioner.pid)
        try:
            super().papermill_execute_cells()
            if self.run.why_interrupted is None:
                message = self.kc.execute("", silent=True, user_expressions={"device": DEVICE_EXPRESSION})
                self.run.device = self.wait_for_reply(message)["content"]["user_expressions"]["device"]
        finally:
            self.run.kernel_finished()

    def process_message(self, msg, cell, cell_index):
        """Take in one message of the kernel, unless it goes over the limit on output."""
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            if not self.run.may_show(msg["content"]):
                return None
        return super().process_message(msg, cell, cell_index)


class ChapterEngine(Engine):
    """Papermill engine ``papers``: ``run`` is the :class:`Run` that it serves."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, run, start_timeout=60, **_):
        """Run the notebook with a :class:`ChapterClient`."""
        run.notebook = nb_man.nb
        client = ChapterClient(
            nb_man,
            run,
            kernel_name=kernel_name,
            timeout=None,  # Run looks after it, and lets the cell say where it was
            iopub_timeout=60,
            startup_timeout=start_timeout,
            shutdown_kernel="immediate",
            record_timing=False,
            coalesce_streams=False,  # see merge_streams
        )
        # The kernel's own lines (not the notebook's) would tear the table on the terminal.
        with open(run.log, "wb") as log:
            return client.execute(env=run.environment(), cwd=str(run.folder), stdout=log, stderr=log)


papermill_engines.register("papers", ChapterEngine)


class Run:
    """The state of one task while it runs: folder, kernel, progress, what it printed."""

    def __init__(self, task: Task, report, folder: Path, worker_name: str | None):
        """Prepare to run a task in a folder of its own."""
        self.task = task
        self.report = report
        self.folder = folder
        self.log = folder / "kernel.log"
        self.worker_name = worker_name
        self.timeout = task.timeout or TIMEOUTS[task.profile]
        self.original = nbformat.reads(task.text, as_version=4)
        self.cells = sum(cell.cell_type == "code" for cell in self.original.cells)
        self.cell = 0
        self.notebook = None
        self.device = None
        self.shown = 0
        self.pid = None
        self.peak_memory_mb = None
        self.cpu_s = None
        self.stopped = False
        self.why_interrupted = None
        self.outcome: Outcome | None = None
        self._interrupted_at = self._cell_since = math.inf
        self._over = threading.Event()

    def environment(self) -> dict[str, str]:
        """Environment of the kernel: nothing of the user's own IPython set-up, one thread where numbers must agree."""
        package_parent = str(provenance.PACKAGE.parent)
        environment = {
            **os.environ,
            "IPYTHONDIR": str(self.folder / "ipython"),
            "PAPERS_PROFILE": self.task.profile,
            "PAPERS_PROGRESS": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")])),
            # tqdm's complaint that a page has no widgets, which packages provoke by importing it: they draw no bars
            "PYTHONWARNINGS": ",".join(filter(None, ["ignore:IProgress not found", os.environ.get("PYTHONWARNINGS")])),
            "TMPDIR": str(self.folder),
        }
        environment.pop("PAPERS_CATALOG_ENTRY", None)
        if self.task.entry is not None:
            environment["PAPERS_CATALOG_ENTRY"] = self.task.entry
        # Dask's workers have these at 1 already, which is wrong for `paper`.
        threads = 1 if self.task.profile in ("smoke", "book") else self.task.threads
        for variable in THREAD_VARIABLES:
            environment.pop(variable, None)
            if threads is not None:
                environment[variable] = str(threads)
        if self.task.gpus and str(self.worker_name).isdigit():
            environment["CUDA_VISIBLE_DEVICES"] = self.task.gpus[int(self.worker_name) % len(self.task.gpus)]
        return environment

    def cell_started(self, cell, cell_index):
        """Called before each cell."""
        if cell.cell_type == "code" and "injected-parameters" not in source.tags(cell):
            self.cell += 1
            self._cell_since = time.monotonic()
            self._look()
            self.tell()

    def kernel_started(self, pid: int):
        """Called when the kernel is ready: watch it."""
        self.pid = pid
        threading.Thread(target=self._watch, daemon=True).start()
        if self.stopped:
            self.stop()

    def interrupt(self, why: str):
        """Interrupt the cell at work, which then shows where it was; what ignores that is killed soon after."""
        self.why_interrupted = why
        self._interrupted_at = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def stop(self):
        """Kill the kernel, or see to it that it is killed as soon as it is there."""
        self.stopped = True
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # a kernel leads a process group of its own

    def kernel_finished(self):
        """Called while the kernel still lives (unless it died): read its peak memory and CPU time."""
        self._over.set()
        self._look()

    def _watch(self):
        while not self._over.wait(1.0):
            self._look()
            self.tell()
            now = time.monotonic()
            if self.why_interrupted is None and now - self._cell_since > self.timeout:
                self.interrupt(f"took longer than {self.timeout:g} s: make it shorter or give a larger --timeout.")
            if now - self._interrupted_at > GRACE:
                self.stop()

    def _look(self):
        """CPU time and peak resident memory so far: the kernel's own high-water mark where the system keeps one."""
        try:
            kernel = psutil.Process(self.pid)
            self.cpu_s = round(sum(kernel.cpu_times()[:4]), 2)  # its own and its children's, user and system
            status = Path(f"/proc/{self.pid}/status")
            if status.exists():
                peak = float(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e6
            else:
                peak = kernel.memory_info().rss / 1e6
        except (OSError, TypeError, psutil.Error):  # the kernel is gone
            return
        self.peak_memory_mb = round(max(peak, self.peak_memory_mb or 0.0), 1)

    def tell(self):
        """Report progress: the code cell at work, how many there are, memory."""
        self.report({"name": self.task.name, "cell": self.cell, "cells": self.cells, "memory_mb": self.peak_memory_mb})

    def may_show(self, content: dict) -> bool:
        """Whether a message fits the limit on output, shortened if need be; the first that does not ends the cell."""
        room = self.task.output_limit - self.shown
        size = len(content["text"]) if "text" in content else len(json.dumps(content.get("data", {})))
        self.shown += size
        if size > room >= 0:
            limit = self.task.output_limit / 1e6
            self.interrupt(f"was stopped, since the notebook showed more than {limit:g} MB: print less.")
            if "text" in content:
                content["text"] = content["text"][:room]
                return True
        return size <= room

    @property
    def cut(self) -> bool:
        """Whether output went over the limit."""
        return self.shown > self.task.output_limit


def execute(task: Task, report=lambda event: None, worker_name: str | None = None) -> Outcome:
    """Run one notebook from top to bottom in a fresh kernel.

    report: called with a dict (name, cell, cells, memory_mb) at every cell and every second, from other threads.
    worker_name: name of the worker, a number on a local cluster (decides which GPU the chapter sees).

    A chapter that fails is an Outcome with an error, not an exception.
    """
    # A short path of its own: addresses of local sockets may not be longer than about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="papers-"))
    run = Run(task, report, folder, worker_name)
    shared_sha256 = provenance.shared_sha256(run.original)  # of the code that the kernel is about to import
    _runs.setdefault(task.run_id, []).append(run)
    error, trace = None, ""
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            copy.deepcopy(run.original),
            None,
            parameters=task.parameters,
            engine_name="papers",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            run=run,
        )
    except PapermillExecutionError as failure:
        trace = "\n".join(failure.traceback)
        last_line = f"{failure.ename}: {failure.evalue}".strip().splitlines()[-1]
        error = f"cell {run.cell} of {run.cells} failed: {last_line}"
    except DeadKernelError:
        trace = traceback.format_exc() + run.log.read_text(errors="replace")[-5000:]
        error = (
            f"the kernel died in cell {run.cell} of {run.cells}, having used {run.peak_memory_mb or 0:.0f} MB: if the "
            "machine ran out of memory, run fewer chapters at once with --jobs."
        )
    except Exception as failure:  # whatever else goes wrong in one chapter must not stop the others
        trace = traceback.format_exc()
        error = f"could not be run: {type(failure).__name__}: {failure}"
    finally:
        duration = time.monotonic() - started
        shutil.rmtree(folder, ignore_errors=True)
    if run.why_interrupted:
        error = f"cell {run.cell} of {run.cells} {run.why_interrupted}"
    device, gpu_memory_mb = _device(run.device)
    metadata = {
        "slug": task.slug,
        "profile": task.profile,
        "seed": task.seed,
        "parameters": _effective_parameters(run.original, task.parameters),
        "source_sha256": source.source_sha256(run.original),
        "code_sha256": source.code_sha256(run.original),
        "shared_sha256": shared_sha256,
        "lock_sha256": task.lock_sha256,
        "duration_s": round(duration, 2),
        "cpu_s": run.cpu_s,
        "peak_memory_mb": run.peak_memory_mb,
        "peak_gpu_memory_mb": gpu_memory_mb,
        "device": device,
        "cpu": provenance.cpu_model(),
        "versions": provenance.versions(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    notebook, stderr = _clean(run.original, run.notebook, metadata, keep_stderr=error is not None, cut=run.cut)
    if error is None:
        here = {folder, Path.home(), Path.cwd(), tempfile.gettempdir(), sys.prefix, provenance.PACKAGE.parent}
        error = find_leak(notebook, here)
    run.outcome = Outcome(
        name=task.name,
        text=nbformat.writes(notebook) + "\n",
        metadata=metadata,
        error=error and f"{task.name}: {error}",
        traceback=_strip_colours(trace),
        stderr=stderr,
    )
    _runs[task.run_id].remove(run)
    return run.outcome


async def stop(run_id: str) -> list[Outcome]:
    """Stop what this process runs of a batch; what they did until then (on a worker's event loop).

    Waits for that until it is there, ten seconds at most.
    """
    running = list(_runs.get(run_id, ()))
    for run in running:
        run.why_interrupted = run.why_interrupted or "was stopped, since the batch was interrupted."
        run.stop()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(run.outcome is None for run in running):
        await asyncio.sleep(0.05)
    return [run.outcome for run in running if run.outcome is not None]


def _effective_parameters(notebook, given: dict) -> dict:
    """Values that the run had for each of its parameters; profile and seed have places of their own."""
    try:
        values = {**source.parameter_defaults(notebook), **given}
    except source.SourceError:
        values = given
    return {name: value for name, value in values.items() if name not in ("profile", "seed")}


def _device(reply: dict | None) -> tuple[str, float | None]:
    """Device and its peak memory in MB from the kernel's answer; a kernel that died says nothing."""
    if not reply or reply.get("status") != "ok":
        return "unknown", None
    device, memory = ast.literal_eval(reply["data"]["text/plain"])
    return device, memory and round(memory, 1)


def _clean(original, executed, metadata: dict, keep_stderr: bool, cut: bool):
    """The source with the outputs of its execution and nothing of the machine; also what was written to stderr.

    The cells of the source keep their ids and metadata. A failed chapter keeps its stderr, which may say why.
    """
    notebook = copy.deepcopy(original)
    stderr = []
    if executed is not None:
        by_id = {cell.id: cell for cell in notebook.cells}
        cells = []
        for cell in executed.cells:
            target = by_id.get(cell.id)
            if target is None:
                if "injected-parameters" not in source.tags(cell):
                    continue  # papermill's own note above a failing cell
                cell.id, cell.metadata = "injected-parameters", nbformat.from_dict({"tags": ["injected-parameters"]})
                target = cell
            cells.append(target)
            if cell.cell_type == "code":
                stderr += [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
                target.execution_count = cell.execution_count
                outputs = [o for o in cell.outputs if keep_stderr or o.get("name") != "stderr"]
                target.outputs = [_clean_output(output) for output in merge_streams(outputs)]
        notebook.cells = cells
        if cut:
            last = [cell for cell in cells if cell.get("outputs")][-1]
            last.outputs.append(nbformat.v4.new_output("stream", text="\n[output cut: it went over the limit]\n"))
    language = executed.metadata.get("language_info", {}) if executed else {}
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", **{k: v for k, v in language.items() if k != "version"}},
            "papers": metadata,
        }
    )
    return notebook, "".join(stderr)


def merge_streams(outputs: list) -> list:
    """The outputs of a cell with all text of one stream in one output, and lines that were drawn over left out.

    What nbclient's ``coalesce_streams`` does, in a time that grows with the text and not with its square: a notebook
    that prints without end may print a single line.
    """
    texts: dict[str, list[str]] = {}
    merged = []
    for output in outputs:
        if output.output_type != "stream":
            merged.append(output)
            continue
        if output.name not in texts:
            merged.append(nbformat.v4.new_output("stream", name=output.name))
        texts.setdefault(output.name, []).append(output.text)
    for output in merged:
        if output.output_type == "stream":
            lines = "".join(texts[output.name]).split("\n")
            # A carriage return followed by something takes the line back to its start.
            output.text = "\n".join(line[line.rfind("\r", 0, max(len(line) - 1, 0)) + 1 :] for line in lines)
    return merged


def _clean_output(output):
    """An output without what the kernel says about itself."""
    output = copy.deepcopy(output)
    if output.output_type in ("display_data", "execute_result"):
        output.metadata = nbformat.from_dict({k: v for k, v in output.metadata.items() if k.startswith("image/")})
    return output


def find_leak(notebook, places) -> str | None:
    """A sentence about the first place (path or folder) of this machine that the outputs show, or None."""
    places = sorted((str(place) for place in places if len(str(place)) > 1), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.\-/])({'|'.join(map(re.escape, places))})(?![\w.\-])")
    number = 0
    for cell in notebook.cells:
        number += cell.cell_type == "code"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = [json.dumps(data[kind]) for kind in data if not re.match(r"image/(?!svg)", kind)]
            texts.append(output.get("text", ""))
            for text in texts:
                found = pattern.search(re.sub(r";base64,[\w+/=\\]+", "", text))
                if found:
                    return f"cell {number} shows {found[1]}, a path of this machine: print names, not paths."
    return None


def _strip_colours(text: str) -> str:
    """Text without the escape sequences that colour it on a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
