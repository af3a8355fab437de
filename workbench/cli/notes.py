"""``workbench notes``: the tags and texts of a model's heads on this machine. No model is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.answer import Answer, AsJson, table
from workbench.errors import BadInput, UsageError
from workbench.models import catalog

if TYPE_CHECKING:
    from workbench.head_notes.notes import Merged, Notes

#: The page of a model of each modality.
PAGES = {"language": "Heads", "vision": "Vision", "diffusion": "Diffusion"}
#: Characters of a text that the listing shows.
MAX_LISTED = 100


def notes(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A model's name, as in the explorer (default: every model).")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="HASH", help="Only those of weights whose hash begins so (the listing has it)."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the notes to this file (.json, .csv).")
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            help="Of the explorer that links of a .csv lead to, such as http://127.0.0.1:8501.",
        ),
    ] = "",
    merge: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="First take over notes from a .json file of --export."),
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """List, export and import notes on heads. They are written in the explorer, or with wb.notes in Python."""
    from workbench.head_notes.note import check_address
    from workbench.head_notes.notes import ENDINGS, all_notes, notes_of_file
    from workbench.head_notes.subject import short_name

    if export is not None and export.suffix.lower() not in ENDINGS:
        raise UsageError(f"--export {export}: give a file that ends in {' or '.join(ENDINGS)}.")
    if check_address(address) and (export is None or export.suffix.lower() != ".csv"):
        raise UsageError(f"--address {address}: it is for the links of a .csv. Give --export FILE.csv, too.")
    name, merged = None if model is None else short_name(model), None
    if merge is not None:
        target = notes_of_file(merge)
        if name is not None and target.subject.name != name:
            raise UsageError(f"--import {merge}: these are notes of {target.subject.name}, not of {name}.")
        merged = target.merge(merge)
    listed = [notes for notes in all_notes(name) if notes.subject.weights.startswith(weights or "")]
    if export is not None:
        _export(listed, export, address)
    document = {
        "model": name,
        "notes": [notes.json() for notes in listed],
        "imported": merged,
        "out": None if export is None else str(export),
    }
    return Answer(document, lambda console: _show(console, listed, name, merged, export, address))


def _export(listed: list[Notes], out: Path, address: str) -> None:
    if not listed:
        raise BadInput(f"--export {out}: there are no notes to export.")
    if len(listed) > 1:
        several = ", ".join(f"{notes.subject.full_name} ({notes.subject.weights[:8]})" for notes in listed)
        raise UsageError(f"--export {out}: expected the notes of one model. Name it, or give --weights: {several}.")
    listed[0].save(out, address)


def _show(
    console: Any, listed: list[Notes], name: str | None, merged: Merged | None, out: Path | None, address: str
) -> None:
    if merged is not None:
        joined = f" ({', '.join(map(str, merged.joined))})" if merged.joined else ""
        console.print(
            f"Imported: {len(merged.added)} heads had no note, {len(merged.joined)} have both notes now{joined}, "
            f"{len(merged.same)} are as before.\n"
        )
    if not listed:
        console.print(
            f"There are no notes{f' of {name}' if name else ''}. Write them in the explorer, on {_page(name)}."
        )
    for notes in listed:
        console.print(f"{notes.subject.full_name}, weights {notes.subject.weights[:8]}:")
        rows = [(note.head, ", ".join(note.tags), _first_line(note.text), note.changed[:10]) for note in notes]
        console.print(table(("head", "tags", "text", "changed"), rows))
        console.print("")
    if out is not None:
        console.print(f"Saved to {out}")
        if not address and out.suffix.lower() == ".csv":
            console.print("Its links follow the explorer's address; --address URL writes them in full.")


def _page(name: str | None) -> str:
    """Where a model's notes are written: the page of its modality."""
    known = name is not None and name in catalog.entries()
    page = PAGES[catalog.modality_of(name)] if known and name is not None else ""
    return f"the page {page}" if page else "the page of its modality (Heads, Vision or Diffusion)"


def _first_line(text: str) -> str:
    line, _, rest = text.partition("\n")
    return f"{line[:MAX_LISTED]} …" if rest or len(line) > MAX_LISTED else line
