"""``workbench cache path|stats|verify|gc``: what it holds, whether it is intact, and making room."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import typer

from workbench.cli.answer import Answer, AsJson, table
from workbench.errors import NotAvailable, UsageError

#: What SQLite says on a full disk.
_FULL = re.compile("disk I/O error|disk is full|No space left")

verbs = typer.Typer(help="The activation cache: cache path, stats, verify, gc.", rich_markup_mode=None)


@verbs.command("path")
def path(as_json: AsJson = False) -> Answer:
    """Print the path of the cache folder."""
    from workbench.cache import folder

    where = str(folder.default())
    return Answer({"path": where}, lambda console: console.print(where))


@verbs.command("stats")
def stats(as_json: AsJson = False) -> Answer:
    """Show what the cache holds, and its size limit."""
    from workbench.cache import folder, users_store

    store = users_store()
    counts, used = store.index.counts(), store.index.size()
    rows = [{"kind": k, "shards": s, "blocks": b, "bytes": n} for k, (s, b, n) in sorted(counts.items())]
    document = {
        "path": str(store.folder),
        "kinds": rows,
        "bytes": used,
        "budget": folder.budget(store.folder, used),
        "unfinished_runs": store.index.pinned(),
        "writable": store.writable,
    }

    def show(console: Any) -> None:
        if not rows:
            console.print("Nothing is cached yet.")
        cells = [(row["kind"], row["shards"], row["blocks"], f"{row['bytes'] / 1e6:.1f} MB") for row in rows]
        if rows:
            console.print(table(("kind", "shards", "blocks", "size"), cells, right=("shards", "blocks", "size")))
        console.print(f"{used / 1e6:.1f} MB of {document['budget'] / 1e9:.1f} GB in {store.folder}")
        for run, shards in document["unfinished_runs"].items():
            console.print(f"{run} is unfinished and needs {shards} shards.")

    return Answer(document, show)


@verbs.command("verify")
def verify(as_json: AsJson = False) -> Answer:
    """Check every block and drop the damaged ones. They are computed again when needed."""
    from workbench.cache import users_store

    store = users_store()
    sound, lost, wrong = store.verify()

    def show(console: Any) -> None:
        for line in wrong:
            console.print(line)
        console.print(f"{sound} blocks are intact, {lost} were damaged and dropped.")

    return Answer({"path": str(store.folder), "sound": sound, "lost": lost, "wrong": wrong}, show, 3 if lost else 0)


@verbs.command("gc")
def gc(
    keep_gb: Annotated[
        float | None,
        typer.Option("--keep", metavar="GB", min=0, help="Shrink the cache to this size (default: its size limit)."),
    ] = None,
    give_up: Annotated[bool, typer.Option("--give-up", help="Also drop what unfinished runs need.")] = False,
    as_json: AsJson = False,
) -> Answer:
    """Evict the least recently used entries. Activations are evicted before results."""
    if keep_gb is not None and not math.isfinite(keep_gb):
        raise UsageError(f"--keep {keep_gb}: expected a number of gigabytes.")
    keep = None if keep_gb is None else int(keep_gb * 1e9)
    store, before = _store_with_room(keep)
    if not store.writable:
        raise UsageError(f"{store.folder} is not writable, so nothing can be dropped from it.")
    if give_up:
        for run in store.index.pinned():
            store.index.unpin(run)
    gone = before + store.trim(keep, spare_pinned=True)
    left, unfinished = store.index.size(), store.index.pinned()
    document = {"path": str(store.folder), "dropped": gone, "bytes": left, "unfinished_runs": unfinished}

    def show(console: Any) -> None:
        console.print(f"{gone / 1e6:.1f} MB dropped, {left / 1e6:.1f} MB left.")
        if unfinished:
            console.print(f"Entries of the unfinished {', '.join(unfinished)} were kept; --give-up drops them too.")

    return Answer(document, show)


def _store_with_room(keep: int | None) -> tuple[Any, int]:
    """The cache, and how many bytes had to go before it could be opened: SQLite needs some room itself."""
    from workbench.cache import folder, users_store
    from workbench.cache.health import make_room

    try:
        return users_store(), 0
    except NotAvailable as error:
        gone = make_room(folder.default() / "shards", keep) if _FULL.search(str(error)) else 0
        if not gone:
            raise
        return users_store(), gone
