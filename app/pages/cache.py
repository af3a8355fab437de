"""Cache: what is kept on this machine, whether it is sound, and making room."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import upload_store
from app.page import Page
from workbench.cache import Store, folder, users_store


def render() -> None:
    """The numbers, and two buttons."""
    store, numbers = users_store(), st.container()
    if st.button("Check every block", key="verify"):
        with st.spinner("Reading every block …"):
            sound, lost, wrong = store.verify()
        (st.success if not lost else st.warning)(f"{sound} blocks are sound, {lost} were damaged and dropped.")
        for line in wrong:
            st.text(line)
    budget = folder.budget(store.folder, store.index.size())
    help_ = "Files are dropped whole, so that less may be left than may be kept."
    keep = st.number_input("Keep at most (GB)", 0.0, value=round(budget / 1e9, 1), step=0.5, key="keep", help=help_)
    if st.button("Drop what was not used for longest", key="gc"):
        gone = store.trim(int(keep * 1e9), spare_pinned=True)
        st.success(f"{gone / 1e6:.1f} MB dropped, {store.index.size() / 1e6:.1f} MB left.")
    with numbers:  # as they are behind all that
        _numbers(store)


def _numbers(store: Store) -> None:
    used, budget = store.index.size(), folder.budget(store.folder, store.index.size())
    counts = store.index.counts()
    left, middle, right = st.columns(3)
    left.metric("Kept", f"{used / 1e6:,.0f} MB")
    middle.metric("May be kept", f"{budget / 1e9:,.1f} GB")
    right.metric("Blocks", f"{sum(blocks for _, blocks, _ in counts.values()):,}")
    rows = [
        {"kind": kind, "shards": shards, "blocks": blocks, "MB": round(size / 1e6, 1)}
        for kind, (shards, blocks, size) in sorted(counts.items())
    ]
    st.dataframe(pd.DataFrame(rows, columns=["kind", "shards", "blocks", "MB"]), hide_index=True)
    st.caption(f"In {store.folder}, shared by pages, scripts and the command line.")
    own = upload_store.folder().parent
    size = sum(path.stat().st_size for path in own.rglob("*") if path.is_file())
    st.caption(f"Sweeps, scores and inputs of these pages are apart and stay: {size / 1e6:,.1f} MB in {own}.")
    for run, shards in store.index.pinned().items():
        st.caption(f"{run} is unfinished and keeps {shards} shards.")


page = Page("cache", "Cache", "database", 5, render)
