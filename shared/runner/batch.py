"""Many chapters at once through Dask: a cluster on this machine, or one that exists."""

import contextlib
import logging
import os
import signal
import uuid
from collections import deque
from collections.abc import Iterator
from itertools import chain

import dask
import nbformat
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker

from shared.runner import provenance
from shared.runner.execute import Outcome, Task, execute, stop

#: Seconds to wait for a scheduler to answer.
CONNECT_TIMEOUT = 10

#: A chapter is run again when its worker is lost, until it has taken this many workers down.
LOST_WORKERS_ALLOWED = 3


class BatchError(RuntimeError):
    """A batch cannot be started; the message says what to do."""


def work(task: Task) -> Outcome:
    """Run a task on a Dask worker; progress goes to the scheduler as events of the batch's topic."""
    worker = get_worker()

    def report(event):
        worker.log_event(topic(task.run_id), {**event, "worker": f"{worker.name} {os.getpid()}"})

    return execute(task, report, str(worker.name))


def topic(run_id: str) -> str:
    """Name of the events of one batch."""
    return f"papers-{run_id}"


def visible_gpus() -> tuple[str, ...]:
    """Names of this machine's NVIDIA GPUs as CUDA_VISIBLE_DEVICES has them; empty where there are none."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(named or map(str, range(count)))[:count] if count else ()


class IgnoreInterrupts(WorkerPlugin):
    """Ctrl-C on a terminal reaches local workers too; they leave it to the process that started them."""

    def setup(self, worker):
        """Called in the main thread of a worker's process, also of one that replaces another."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def local_cluster(workers: int):
    """A Dask cluster on this machine: processes of one thread each, no dashboard, no log lines."""
    settings = {
        "distributed.scheduler.allowed-failures": LOST_WORKERS_ALLOWED,
        # By the wall clock: workers would be taken for dead when it jumps, or when a laptop wakes up. Connections tell.
        "distributed.scheduler.worker-ttl": None,
        # Sampling stacks and ticking fifty times a second would take time from the chapters.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # chapters live in kernels of their own
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},  # any free port
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int):
    """A client of an existing scheduler or of a local cluster. Raises BatchError when the scheduler does not answer."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None:
        with local_cluster(workers) as cluster, Client(cluster) as client:
            client.register_plugin(IgnoreInterrupts())
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise BatchError(
            f"No Dask scheduler answers at {scheduler}: start one with 'dask scheduler', or check the address."
        ) from error
    with client:
        yield client


def run(
    tasks: list[Task],
    scheduler: str | None,
    jobs: int | None,
    on_event=lambda event: None,
    on_stopped=lambda outcome: None,
) -> Iterator[Outcome]:
    """Run tasks, in this order as far as there is room, and yield their outcomes as they come.

    jobs: how many run at once; by default one a CPU core (one a GPU in profile `paper` where there are GPUs), or as
    many as an existing cluster takes. on_event: called from another thread with a worker's events (see `execute`).
    on_stopped: called with the outcome of each chapter that an interrupt stopped half-way.

    Interrupted (closed, or by an exception), it cancels what waits and kills the kernels that run. Raises BatchError
    when the scheduler cannot be reached.
    """
    run_id = uuid.uuid4().hex
    on_gpu = bool(tasks) and tasks[0].profile == "paper"
    gpus = visible_gpus() if on_gpu and scheduler is None else ()
    if scheduler is None:
        jobs = min(jobs or len(gpus) or CPU_COUNT, len(tasks))
    threads = max(1, CPU_COUNT // jobs) if scheduler is None else None
    for task in tasks:
        task.run_id, task.gpus, task.threads = run_id, gpus, threads
    with connect(scheduler, jobs) as client:
        client.subscribe_topic(topic(run_id), lambda event: on_event(event[1]))
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        has_gpus = any("GPU" in worker.get("resources", {}) for worker in workers)
        resources = {"GPU": 1} if on_gpu and has_gpus else None
        waiting, sent = deque(tasks), {}
        completed = as_completed([])

        def submit_next():
            task = waiting.popleft()
            future = client.submit(work, task, key=f"{task.name}-{run_id}", pure=False, resources=resources)
            sent[future.key] = task
            completed.add(future)

        try:
            for _ in range(min(jobs or len(tasks), len(tasks))):
                submit_next()
            for future in completed:
                if waiting:
                    submit_next()  # first, so that no worker waits while a result is stored
                yield outcome_of(future, sent[future.key])
        except BaseException:
            client.cancel(list(completed.futures), force=True)
            stopped = {}
            with contextlib.suppress(Exception):  # workers that do not answer have no kernel left
                stopped = client.run(stop, run_id, on_error="ignore")
            for outcome in chain.from_iterable(filter(None, stopped.values())):
                on_stopped(outcome)
            raise


def outcome_of(future, task: Task) -> Outcome:
    """What a finished future holds; a task that Dask gave up on is a failed chapter.

    A worker that has other shared code than there is here is told of.
    """
    name = task.name
    try:
        outcome = future.result()
    except KilledWorker:
        error = (
            f"{name}: the workers that ran it died, again and again: if they ran out of memory, give them more or run "
            "fewer chapters at once with --jobs."
        )
        return Outcome(name, None, {"slug": task.slug}, error)
    except Exception as failure:
        error = f"{name}: its worker could not run it: {type(failure).__name__}: {failure}"
        return Outcome(name, None, {"slug": task.slug}, error)
    here = provenance.shared_sha256(nbformat.reads(task.text, as_version=4))
    if outcome.error is None and outcome.metadata["shared_sha256"] != here:
        outcome.stderr = "(runner) its worker has another version of the shared package\n" + outcome.stderr
    return outcome
