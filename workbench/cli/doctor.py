"""``workbench doctor``: package versions against their floors, GPU kernels, disk space, cache, installed models."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

from workbench.cli.answer import Answer, AsJson, table
from workbench.io.user_folder import user_folder


def doctor(as_json: AsJson = False) -> Answer:
    """Check package versions, disk space, cache and models."""
    checks = [*_versions(), *_kernels(), *_machine(), _cache(), _models()]

    def show(console: Any) -> None:
        console.print(table(("what", "state", ""), [(c["what"], c["state"], c["note"]) for c in checks]))

    return Answer({"checks": checks, "well": all(c["state"] != "bad" for c in checks)}, show, _code(checks))


def _code(checks: list[dict[str, str]]) -> int:
    return 1 if any(check["state"] == "bad" for check in checks) else 0


def _check(what: str, state: str, note: str) -> dict[str, str]:
    return {"what": what, "state": state, "note": note}


def _versions() -> list[dict[str, str]]:
    from importlib import metadata

    from packaging.requirements import Requirement

    checks = [_check("python", "ok" if sys.version_info >= (3, 11) else "bad", platform.python_version())]
    for line in metadata.requires("attention-workbench") or ():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            checks.append(_check(need.name, "bad", f"missing; {need.specifier} is needed"))
            continue
        good = need.specifier.contains(version, prereleases=True)
        checks.append(_check(need.name, "ok" if good else "bad", f"{version} ({need.specifier or 'any'})"))
    return checks


def _kernels() -> list[dict[str, str]]:
    """The extra ``kernels``, which only models on CUDA devices use: what is missing is no fault."""
    from importlib import metadata

    from packaging.requirements import Requirement

    checks = []
    for line in metadata.requires("attention-workbench") or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}) or not need.marker.evaluate({"extra": "kernels"}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            checks.append(_check(need.name, "none", "GPU kernels: pip install 'attention-workbench[kernels]'"))
            continue
        good = need.specifier.contains(version, prereleases=True)
        checks.append(_check(need.name, "ok" if good else "bad", f"{version} ({need.specifier}), GPU kernels"))
    return checks


def _machine() -> list[dict[str, str]]:
    place = user_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return [
        _check("cores", "ok", str(os.cpu_count())),
        _check("disk", "ok" if free > 5e9 else "low", f"{free / 1e9:.0f} GB free for {user_folder()}"),
    ]


def _cache() -> dict[str, str]:
    from workbench.cache import folder
    from workbench.cache.store import Store, Unusable
    from workbench.errors import UsageError

    if folder.switched_off():
        return _check("cache", "off", "WORKBENCH_CACHE=off")
    try:
        store = Store.open_checked(folder.default())
        used, notes = store.index.size(), " ".join(store.notes)
        folder.budget(store.folder, used)
    except (Unusable, UsageError) as error:
        return _check("cache", "bad", str(error))
    size = f"{used / 1e9:.2f} of {folder.budget(store.folder, used) / 1e9:.1f} GB in {store.folder}"
    return _check("cache", "ok" if store.writable else "read-only", f"{size} {notes}".strip())


def _models() -> dict[str, str]:
    from workbench.models import catalog, sources

    ready = [name for name in catalog.entries() if sources.status(name) == "ready"]
    return _check("models", "ok" if ready else "none", ", ".join(ready) or f"workbench models fetch {catalog.DEFAULT}")
