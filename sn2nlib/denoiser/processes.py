"""Where a training runs: device, the processes of `torchrun`, deterministic algorithms."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import torch
from torch import distributed
from torch.utils import deterministic as memory


def choose_device(device: str | None) -> torch.device:
    """The device named, or the GPU if there is one, or the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def has_bfloat16(device: str | None) -> bool:
    """Whether the device computes in bfloat16, rather than emulating it."""
    if choose_device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public; older releases lack it
    return bool(supported and supported())


@contextlib.contextmanager
def processes(device: str | None) -> Iterator[tuple[int, int, torch.device]]:
    """Rank, number of processes, and device; joins the group that `torchrun` announces in the environment."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = choose_device(device)
    if world > 1 and str(place) == "cuda":  # no number given
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    joins = world > 1 and not distributed.is_initialized()
    if joins:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank() if world > 1 else 0, world, place
    finally:
        if joins:
            distributed.destroy_process_group()


def agreed(decision: bool | None, *, world: int) -> bool:
    """The decision of rank 0, in every process."""
    decisions = [decision]
    if world > 1:
        distributed.broadcast_object_list(decisions, src=0)
    return bool(decisions[0])


def total(values: list[float], device: torch.device, *, world: int) -> list[float]:
    """Sums over the processes."""
    if world == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(summed)
    return summed.tolist()


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms inside the block; the caller's choice is put back after it.

    Operations without a deterministic version (none of the network's on a CPU) warn and run.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn = torch.backends.cudnn
    chosen, benchmark = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    # filling every new tensor is a debugging aid that costs time; nothing here reads uninitialised memory
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        memory.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark = chosen, benchmark


@contextlib.contextmanager
def stops_between_steps(*, world: int) -> Iterator[threading.Event]:
    """Inside the block, the first Ctrl+C only sets the event, so that no step is stopped halfway; the second one acts.

    Where Ctrl+C does something else already, outside the main thread, and in one of several processes, which wait for
    each other within a step, it acts at once.
    """
    asked = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if world > 1 or not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked
        return

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
