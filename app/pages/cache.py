"""Cache: what is stored on this machine, whether it is intact, and freeing space."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import upload_store
from app.page import Page
from workbench.cache import Store, folder, users_store

HELP = (
    "A **block** is one prompt’s activation at one hook, or one batch of a result; blocks are stored together in "
    "files, the **shards**. Above the **limit**, what is least recently used is deleted, activations before "
    "results.\n\n"
    "*Verify all blocks* compares each block with its checksum and deletes the damaged ones: they are computed "
    "again when they are needed. *Delete the least recently used entries* frees space down to *Keep at most*, and "
    "spares what unfinished runs need."
)


def render() -> None:
    """The numbers, and two buttons."""
    store, numbers = users_store(), st.container()
    if st.button("Verify all blocks", key="verify"):
        with st.spinner("Reading all blocks …"):
            intact, damaged, errors = store.verify()
        (st.success if not damaged else st.warning)(f"{intact} blocks are intact, {damaged} were damaged and deleted.")
        for line in errors:
            st.text(line)
    budget = folder.budget(store.folder, store.index.size())
    help_text = "Whole files are deleted, so less than this may be left."
    keep = st.number_input("Keep at most (GB)", 0.0, value=round(budget / 1e9, 1), step=0.5, key="keep", help=help_text)
    if st.button("Delete the least recently used entries", key="gc"):
        freed = store.trim(int(keep * 1e9), spare_pinned=True)
        st.success(f"{freed / 1e6:.1f} MB deleted, {store.index.size() / 1e6:.1f} MB left.")
    with numbers:  # as they are after all that
        _numbers(store)


def _numbers(store: Store) -> None:
    used, budget = store.index.size(), folder.budget(store.folder, store.index.size())
    counts = store.index.counts()
    left, middle, right = st.columns(3)
    left.metric("Size", f"{used / 1e6:,.0f} MB")
    middle.metric("Limit", f"{budget / 1e9:,.1f} GB")
    right.metric("Blocks", f"{sum(blocks for _, blocks, _ in counts.values()):,}")
    rows = [
        {"kind": kind, "shards": shards, "blocks": blocks, "MB": round(size / 1e6, 1)}
        for kind, (shards, blocks, size) in sorted(counts.items())
    ]
    st.dataframe(pd.DataFrame(rows, columns=["kind", "shards", "blocks", "MB"]), hide_index=True)
    st.caption(f"In {store.folder}, shared by the explorer, scripts and the command line.")
    explorer = upload_store.folder().parent
    size = sum(path.stat().st_size for path in explorer.rglob("*") if path.is_file())
    st.caption(
        f"The explorer’s own sweeps, scores and uploads are not deleted here: {size / 1e6:,.1f} MB in {explorer}."
    )
    for run, shards in store.index.pinned().items():
        st.caption(f"{run} is unfinished and uses {shards} shards, which are not deleted.")


page = Page("cache", "Cache", "database", 8, render, help=HELP)
