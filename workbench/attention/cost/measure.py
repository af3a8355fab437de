"""Time and memory of a function of q, k and v, as measured on one CPU thread."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile  # torch.profiler.profile also makes a table of all events: slow

from workbench.arguments import function, refusal, whole_number

Mixing = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        seconds: CPU seconds of the thread, the median of `times`; time in which it waited is not in it.
        peak_bytes: the most memory that it held at once, over what was held before: its output and what lies between,
            not its inputs. Scratch memory that a library takes without PyTorch's allocator is not in it.
        times: CPU seconds of each run.
    """

    seconds: float
    peak_bytes: int
    times: tuple[float, ...]


def measure(
    f: Mixing,
    length: int,
    *,
    n_heads: int = 1,
    d_head: int = 64,
    d_value: int | None = None,
    batch: int = 1,
    repeats: int = 3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Measured:
    """Time and peak memory of ``z = f(q, k, v)`` on normal q, k and v of a length, without gradients, on the CPU.

    Args:
        f: takes q, k ``[batch, head, pos, d_head]`` and v ``[batch, head, pos, d_value]``.
        length: positions. n_heads, d_head, d_value, batch: the other sizes; `d_value` is `d_head` by default.
        repeats: runs whose median is taken, after one that is not timed and one whose memory is recorded.
        dtype: of q, k and v. seed: of their values.

    Raises:
        UsageError: a size below 1, or something that is no function.

    Examples:
        >>> import torch
        >>> from workbench.attention.cost.measure import measure
        >>> measure(torch.nn.functional.scaled_dot_product_attention, 32, n_heads=2).peak_bytes >= 2 * 32 * 64 * 4
        True
    """
    sizes = {"length": length, "n_heads": n_heads, "d_head": d_head, "batch": batch}
    sizes = {name: whole_number(name, value, at_least=1) for name, value in sizes.items()}
    width = whole_number("d_value", d_value, at_least=1, optional=True) or sizes["d_head"]
    whole_number("seed", seed)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise refusal("dtype", dtype, "a floating-point type of PyTorch")
    function("f", f, optional=False)
    rng = torch.Generator().manual_seed(seed)
    leading = (sizes["batch"], sizes["n_heads"], sizes["length"])
    q, k, v = (torch.randn(*leading, d, generator=rng).to(dtype) for d in (sizes["d_head"], sizes["d_head"], width))
    return measure_call(lambda: f(q, k, v), repeats=repeats)


def measure_call(call: Callable[[], Any], *, repeats: int = 3) -> Measured:
    """Time and peak memory of a call without arguments, without gradients and on one thread.

    Raises:
        UsageError: fewer than one repeat, or something that is no function.
    """
    whole_number("repeats", repeats, at_least=1)
    function("call", call, optional=False)
    with torch.no_grad(), _one_thread():
        call()
        peak = peak_bytes(call)
        times = []
        for _ in range(repeats):
            start = time.thread_time()
            result = call()
            times.append(time.thread_time() - start)
            del result
    return Measured(statistics.median(times), peak, tuple(times))


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most memory that a call held at once, over what was held before, as PyTorch's CPU allocator reports it.

    Every allocation is seen, inside of kernels too, and its release: Σ of their sizes in order, at its largest. The
    release of what was held before is not seen, so that it makes no room. All threads of the process count.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read once: else it prints two lines for each recording
    recorded = profile(profile_memory=True)
    with recorded:
        result = call()
    del result  # released after the recording, so that the output counts
    assert recorded.kineto_results is not None
    changes = sorted(_allocations(recorded.kineto_results.experimental_event_tree()))
    peak = held = 0
    for _, size in changes:
        held += size
        peak = max(peak, held)
    return peak


def _allocations(events: list[Any]) -> Iterator[tuple[int, int]]:
    """When, and how many bytes on the CPU; negative where they are released."""
    waiting = list(events)
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag.name == "Allocation" and event.extra_fields.device.type == "cpu":
            yield event.start_time_ns, event.extra_fields.alloc_size


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch computes on the calling thread, so that its CPU time is all of the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
