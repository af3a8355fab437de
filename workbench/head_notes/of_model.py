"""`notes`: the notes on a model's heads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench import arguments
from workbench.errors import UnknownName
from workbench.head_notes.notes import Notes
from workbench.head_notes.subject import Subject


def notes(model: Any, *, folder: str | os.PathLike[str] | None = None) -> Notes:
    """The notes on a model's heads, tags and a text for each, on this machine.

    They belong to the model's name, its weights (a hash of their numbers, whatever the precision and the device) and
    the operators in its layers: notes on other weights of the same name are other notes (`Notes.others`).

    Args:
        model: a hooked model of any modality, or the name of one, which is then loaded.
        folder: where notes are; by default in the folder of the cache (``WORKBENCH_CACHE_DIR``).

    Raises:
        UsageError: `model` is something else.
        UnknownName, NotAvailable, UntrustedModel, UnsupportedModel: as for `wb.load`.

    Examples:
        >>> notes = wb.notes("tiny", folder="notes")
        >>> notes.write("0.7", "Copies the subject.").text
        'Copies the subject.'
        >>> "0.7" in notes, "0.6" in notes
        (True, False)
    """
    from workbench.models import load
    from workbench.models.hooked import HookedModel

    what = "a model of the workbench, or the name of one"
    place = None if folder is None else Path(arguments.file_path("folder", folder, "a folder")).expanduser()
    if isinstance(model, str):
        arguments.file_path("model", model, what)  # without NUL
        try:
            model = load(model)
        except UnknownName as error:
            raise UnknownName("model", error.name, error.choices, error.hint, argument="model") from None
    return Notes(Subject.of_model(arguments.instance("model", model, HookedModel, what)), place)
