"""What an operator costs, as rows of a table: counted, and measured where there is something to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

from workbench.arguments import function, sequence, text, whole_number
from workbench.attention.cost.forms import form as form_of
from workbench.attention.cost.traffic import BUFFER, RESIDENT, attention_traffic, bytes_moved, state_bytes
from workbench.attention.cost.workload import Workload

Pairs = int | Callable[[int], int] | None


def report(
    name: str,
    form: str,
    length: int | Iterable[int],
    *,
    n_heads: int = 1,
    n_kv_heads: int | None = None,
    d_head: int = 64,
    d_value: int | None = None,
    batch: int = 1,
    causal: bool = True,
    pairs: Pairs = None,
    scored: Pairs = None,
    block: int = 64,
    bytes_each: int = 4,
    resident: int = RESIDENT,
    buffer: int = BUFFER,
    run: Callable[..., Any] | None = None,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """One row for each length.

    =================== ================================================================================
    operator, form      as given
    length              positions
    passes              over the keys, those that select included
    passes_to_select    of these, before it is known which keys are attended to
    passes_as_written   of the definition, which holds every weight
    passes_over_queries 1 unless weights are normalised over queries
    pairs               pairs of a query and a key that a head weighs; None if it weighs none
    flops               all heads and inputs; a multiplication and an addition are one each; no projections
    exponentials        exponentials, powers and logarithms, all heads and inputs
    bytes_moved         between memory and a buffer, all heads and inputs
    bytes_spilled       what the definition moves besides, with weights that do not fit into the buffer
    state_bytes         what is kept to continue; None if it cannot continue
    seconds             with `run`: CPU seconds of one thread, a median; else missing
    peak_bytes          with `run`: memory over the inputs; else missing
    =================== ================================================================================

    Args:
        name: of the operator. form: of its cost, `Operator.form`.
        length: one, or several.
        n_heads, n_kv_heads, d_head, d_value, batch, causal, block, bytes_each: as in `Workload`.
        pairs, scored: as in `Workload`, or a function of the length.
        resident: queries in the buffer. buffer: its bytes.
        run: ``z = run(q, k, v)``, which is measured in float32. repeats: how often it is timed.

    Raises:
        UnknownName: no such form.
        UsageError: a size that is not possible.

    Examples:
        >>> from workbench.attention.cost.report import report
        >>> row, = report("lightning", "decayed linear", 4096, n_heads=9)
        >>> row["passes"], row["state_bytes"]
        (1, 147456)
    """
    text("name", name)
    kind = form_of(form)
    if run is not None:
        function("run", run)
    lengths = (
        (length,) if isinstance(length, Integral) else sequence("length", length, "a number of positions, or several")
    )
    rows = []
    for entry in lengths:
        positions = whole_number("length", entry, at_least=1)
        work = Workload(
            length=positions,
            d_head=d_head,
            d_value=d_value,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            batch=batch,
            causal=causal,
            pairs=pairs(positions) if callable(pairs) else pairs,
            scored=scored(positions) if callable(scored) else scored,
            block=block,
            bytes_each=bytes_each,
        )
        sizes = {"bytes_each": bytes_each, "resident": resident, "buffer": buffer}
        written = attention_traffic(positions, positions, d_head, work.values, passes=kind.passes_to_spill, **sizes)
        everything = n_heads * batch
        row: dict[str, Any] = {
            "operator": name,
            "form": form,
            "length": positions,
            "passes": kind.passes,
            "passes_to_select": kind.passes_to_select,
            "passes_as_written": kind.passes_as_written,
            "passes_over_queries": kind.passes_over_queries,
            "pairs": None if kind.pairs is None else kind.pairs(work),
            "flops": kind.flops(work) * everything,
            "exponentials": kind.exponentials(work) * everything,
            "bytes_moved": bytes_moved(kind, work, resident=resident, buffer=buffer),
            "bytes_spilled": written.spill * everything,
            "state_bytes": state_bytes(kind, work),
        }
        if run is not None:
            from workbench.attention.cost.measure import measure

            measured = measure(
                run, positions, n_heads=n_heads, d_head=d_head, d_value=d_value, batch=batch, repeats=repeats
            )
            row |= {"seconds": measured.seconds, "peak_bytes": measured.peak_bytes}
        rows.append(row)
    return rows
