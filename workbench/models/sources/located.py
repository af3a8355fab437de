"""Where the files of a model are on this machine, whichever way it came here."""

from __future__ import annotations

import re
from pathlib import Path

from workbench import registry
from workbench.errors import NotAvailable
from workbench.io import trust
from workbench.models import catalog
from workbench.models.catalog import Entry
from workbench.models.sources import store
from workbench.models.sources.store import folder

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?")


def files_of(name: str, *, base: bool = False) -> list[Path] | None:
    """The files of the model that `workbench.models.sources.resolve` would load by a name; None where they are not all
    on this machine. Nothing is read but an adapter's settings.

    Args:
        base: of an adapter, and so none itself.
    """
    from workbench.models.sources import adapter, hub

    path, source = Path(name).expanduser(), None
    if name in catalog.entries():
        entry = catalog.get(name)
        if entry.source == "hub":
            source = placed(entry) or hub.cached(entry.repo, entry.revision)
        elif status(name) == "ready":
            source = bundled(entry) if entry.source == "bundled" else folder() / name
    elif path.is_dir():
        source = path
    elif path.is_file():
        return [path]
    elif (hub_id := HUB_ID.fullmatch(name)) is not None:
        entry = hub_entry(hub_id)
        source = placed(entry) or hub.cached(entry.repo, entry.revision)
    if source is None:
        return None
    files = [file for file in source.iterdir() if file.is_file()]
    if not adapter.is_in(source) or (source / "config.json").is_file():
        return files
    others = None if base else files_of(adapter.base_name(source, adapter.read_settings(source)), base=True)
    return None if others is None else files + others


def status(name: str) -> str:
    """``"ready"``, ``"not fetched"``, ``"damaged"`` (files missing or of another size) or ``"missing"`` (bundled).

    No network is used. Sizes are compared here; hashes when the model is loaded.
    """
    entry = catalog.get(name)
    if entry.source == "bundled":
        return "ready" if (registry.ROOT / entry.path / "config.json").is_file() else "missing"
    if entry.source == "hub":
        from workbench.models.sources import hub

        is_ready = (folder() / name / "config.json").is_file() or hub.cached(entry.repo, entry.revision)
        return "ready" if is_ready else "not fetched"
    seal = store.read_seal(folder() / name)
    if seal is None:
        return "not fetched"
    return "ready" if store.complete(folder() / name, seal) else "damaged"


def hub_entry(hub_id: re.Match[str]) -> Entry:
    """A model of the hub that is not in the catalogue."""
    return Entry(
        hub_id[0], "hub", trust.WEIGHTS, "see the hub", "", family="", repo=hub_id["repo"], revision=hub_id["revision"]
    )


def place(entry: Entry) -> Path:
    """Where the files of a model of the hub may be placed by hand."""
    return folder() / entry.name.replace("/", "--").replace("@", "--")


def placed(entry: Entry) -> Path | None:
    """That folder, where they were."""
    from workbench.models.sources import adapter

    source = place(entry)
    return source if (source / "config.json").is_file() or adapter.is_in(source) else None


def bundled(entry: Entry) -> Path:
    """The folder of a model that comes with the workbench."""
    model = registry.ROOT / entry.path
    if not (model / "config.json").is_file():
        raise NotAvailable(f"{entry.name} is missing from {model}: reinstall the package.")
    return model
