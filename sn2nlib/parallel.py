"""How many processes a machine carries, and jobs spread over them.

Scans are independent of each other, and one process per core with a thread each is quicker than threads that wait for
one another inside every matrix product.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from joblib import Parallel, cpu_count, delayed

CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit, on Linux
WORTH_A_PROCESS = 2**26  # bytes of k-space; below, starting a process takes longer than the job
_PROCESS = 5e8  # bytes of a process with its libraries
_SHARE = 0.75  # of the memory; the rest is the system's
_NOTEBOOK = 1e9  # bytes of the process that hands out the jobs


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    limit = CONTROL_GROUP.read_text(encoding="ascii").strip() if CONTROL_GROUP.is_file() else "max"
    installed = int(psutil.virtual_memory().total)
    return min(installed, int(limit)) if limit.isdigit() else installed


def n_threads() -> int:
    """Processor cores that this process may use: the machine's, or what it or its container is held to."""
    return int(cpu_count())


def workers_for(matrix: tuple[int, int, int], n_coils: int, *, copies: int) -> int:
    """How many scans to work on at a time: as many as cores and memory allow, one if they are small.

    Parameters
    ----------
    matrix : (z, y, x)
        Of a scan.
    n_coils
        Its coils.
    copies
        Of its k-space that a job holds at its peak.
    """
    kspace = 8 * n_coils * math.prod(matrix)
    if kspace < WORTH_A_PROCESS:
        return 1
    fitting = (_SHARE * usable_memory() - _NOTEBOOK) / (copies * kspace + _PROCESS)
    return max(1, min(int(fitting), cpu_count()))


def spread(function: Callable[..., Any], jobs: Sequence[Mapping[str, Any]], *, workers: int) -> Iterator[Any]:
    """Call `function(**job)` for every job, in this process or in several; results as they are ready.

    Parameters
    ----------
    function
        Of a module, so that other processes find it.
    jobs
        Keyword arguments of each call.
    workers
        Processes; they share the cores among them.

    Yields
    ------
    The results, in the order in which they are ready.
    """
    parallel = Parallel(n_jobs=min(workers, max(len(jobs), 1)), return_as="generator_unordered")
    yield from parallel(delayed(function)(**job) for job in jobs)
