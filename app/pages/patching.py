"""Patching: a sweep over a task or over pairs of the user's own, a set of heads edited by hand, and a circuit built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
import torch

import workbench as wb
from app import chosen, inputs, models, options
from app.page import Page
from app.patching import as_code, asked, by_hand, forced, head_set, sweep_shown, sweeping
from app.plain import guarded, plain
from app.shown import show
from app.work.background import jobs, watch
from workbench.core import Edit, Head
from workbench.runs.run import Run

#: Heads that one click takes over from a sweep.
STRONGEST = 5
#: Prompts of a measured faithfulness, and random circuits beside it.
PROMPTS, RANDOM = 20, 20
MEASURED = (
    f"The finding `faithfulness`, kept as a run. On {PROMPTS} prompts that the sweep has not seen, the circuit, its "
    f"parts, all heads but it and {RANDOM} random circuits of the same layers are kept, and the rest ablated."
)


def render() -> None:
    """The page."""
    name = chosen.model_name()
    model = models.load(name)
    head = chosen.head(model)
    pairs: dict[str, Any] = {}
    sweep: wb.Sweep | None = None
    with guarded():
        pairs = asked.choose()
    if not pairs:
        return
    given = sweeping.arguments()
    with guarded():
        sweep = sweeping.of(model, name, pairs, given)
    left, right = st.columns([3, 2], gap="medium")
    with left, guarded():
        _sweep(model, sweep, head)
    with right:
        st.subheader("By hand", anchor=False)
        best = sweep.top(STRONGEST) if sweep is not None and "head" in sweep.axes else []
        heads = head_set.widgets(model, head, best)
        with guarded():
            _by_hand(model, name, pairs, given, head, list(heads))
    with left:
        st.subheader("Circuit", anchor=False)
        head_set.roles(model, head, name, str(pairs.get("task", "pairs")))
        with guarded():
            _faithfulness(model, name, pairs, heads)


def _sweep(model: Any, sweep: wb.Sweep | None, head: Head) -> None:
    if sweep is None:
        st.info("The sweep's heatmap will be here. Heads can be put into the set and edited by hand meanwhile.")
        return
    adding = options.toggle("A click also puts the head into the set, or takes it out", "adding")

    def picked(head: Head) -> None:
        chosen.choose(head)
        if adding and "kv_head" not in sweep.axes:  # which of its heads?
            head_set.flip(head)

    share = model.n_heads // model.n_kv_heads
    sweep_shown.show(sweep, head, frozenset(head_set.current(model)), picked, share)
    table = sweep_shown.strongest(sweep)
    numbers = {c: st.column_config.NumberColumn(format="%.3g") for c in table.select_dtypes("number")}
    st.dataframe(table, hide_index=True, column_config=numbers, height="content")


def _by_hand(
    model: Any,
    name: str,
    pairs: Mapping[str, Any],
    given: Mapping[str, Any],
    head: Head,
    heads: list[Head],
) -> None:
    base = "corrupt" if given.get("direction") == "denoise" else "clean"
    where = by_hand.place(model, name, pairs, base)
    kinds = by_hand.PAIRED if where.asked else by_hand.ALONE
    kind_, at_ = st.columns(2)
    with kind_:
        kind = options.select("The set's heads are", list(kinds), "kind-by-hand", format_func=kinds.__getitem__)
    with at_:
        at = options.select("at", [by_hand.EVERYWHERE, by_hand.AT_END], "at-by-hand")
    chart = st.container()  # above the widgets of forced rows, and drawn when they are known
    rows = forced.widgets(model, head, model.to_str_tokens(torch.tensor(where.ids)))
    edits = by_hand.edits(heads, kind, at == by_hand.AT_END, rows)
    with st.expander("Show as code", icon=":material/code:"):
        st.code(as_code.code(name, pairs, given, where, chosen.prompt(), edits), language="python")
    idle = forced.without_effect(rows, heads, at == by_hand.EVERYWHERE, len(where.ids) - 1)
    if idle:
        st.warning(f"{', '.join(idle)}: in the set, too. What it gives there is replaced: its forced row does nothing.")
    with chart, guarded():
        said = f"{_counted(len(heads), 'head')} {kinds[kind]}, {at}" if heads else ""
        _change(model, name, where, edits, said, len(rows))


def _change(model: Any, name: str, where: by_hand.Place, edits: tuple[Edit, ...], heads: str, rows: int) -> None:
    if not edits:
        st.info("Put heads into the set, or force a row: the next token is shown before and after.")
        return
    found = by_hand.change(name, where, edits)
    said = " · ".join(filter(None, [heads, _counted(rows, "forced row") if rows else ""]))
    show(by_hand.shown(found, model, where, edits, said), "by-hand", "next-token")
    differences = found.differences
    pair = (
        ""
        if differences is None
        else " Logit difference of the pair: {:.3f} before, {:.3f} after.".format(*differences)
    )
    st.caption(f"KL(before ‖ after) {found.kl:.3g} nats.{pair} One prompt, so there is no interval.")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _faithfulness(model: Any, name: str, pairs: Mapping[str, Any], heads: head_set.Roles) -> None:
    """The finding `faithfulness` on this circuit: a run like any other."""
    if not heads:
        return
    if "task" not in pairs:
        st.caption("Faithfulness is measured on a task: its prompts are drawn anew, so that others chose the heads.")
        return
    task = str(pairs["task"])
    kept = inputs.keep(head_set.circuit(heads, name, task).to_bytes())
    settings = {
        "task": task,
        "circuit": str(inputs.folder() / kept),
        "n": PROMPTS,
        "n_circuit": max(PROMPTS, int(pairs["n"])),  # those are left out: the sweep has seen them
        "random_circuits": RANDOM,
        "seed": int(pairs["seed"]),
    }
    key = f"faithfulness {name} {sorted(settings.items())}"
    job = jobs().with_key(key)
    if job is not None and not job.over:
        watch(job)
        return
    if job is not None and job.state == "done":
        _measured(Run.read_header(Path(job.file)))
        return
    if job is not None and job.state == "failed":
        st.error(plain(job.why), icon=":material/error:")
    if job is not None and job.state == "stopped":
        st.info("Stopped before it ended, so there is no run of it. What was computed is kept: measure again to go on.")
    if st.button("Measure its faithfulness", icon=":material/straighten:", key="faithfulness", help=MEASURED):
        out = str(Path("runs").resolve())
        job = {"kind": "finding", "finding": "faithfulness", "model": name, "settings": settings, "out": out}
        jobs().submit(key, {**job, "label": f"faithfulness on {task}"})
        st.rerun()


def _measured(run: Run) -> None:
    first = run.table("faithfulness").iloc[0] if "faithfulness" in run.table_names else None
    if first is not None:
        st.metric("Faithfulness", f"{first['share']:.2f} [{first['low']:.2f}, {first['high']:.2f}]")
    st.code(run.summary, language=None, wrap_lines=True)
    st.caption(plain(f"Kept as the run {run.path.name}: see the pages Runs and Circuits."))


page = Page("patching", "Patching", "healing", 2, render)
