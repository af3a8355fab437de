"""What a run says of a file or run directory that it was made with: its name and the hash of its content.

``reproduce --from`` finds it again by both: a small note in the user's cache folder says where it was, and a file of
that name in the current folder is tried as well. Notes are not part of any result.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.cache.folder import switched_off_everywhere, user_folder
from workbench.errors import BadInput, UsageError
from workbench.io.files import JSON_BYTES, parse_json, read_file, sha256_of, write_atomic
from workbench.runs.layout import DONE

#: Between a name and the hash of the content, as in requirements of pip.
HASH = "#sha256="
_WITH_HASH = re.compile(rf"(?P<name>.+){HASH}(?P<digest>[0-9a-f]{{64}})", re.DOTALL)


def settings_with_hashes(settings: Mapping[str, Any], files: Collection[str]) -> dict[str, Any]:
    """Settings as a run stores them: those that are `files` by `with_hash`."""
    return {name: with_hash(locate(value)) if name in files and value else value for name, value in settings.items()}


def located_settings(settings: Mapping[str, Any], files: Collection[str]) -> dict[str, Any]:
    """Settings as a finding uses them: those that are `files` as paths of this machine, by `locate`."""
    return {name: str(locate(value)) if name in files and value else value for name, value in settings.items()}


def with_hash(path: str | os.PathLike[str]) -> str:
    """``NAME#sha256=…`` of a file or run directory that is there, which is remembered for `locate`; else the text.

    Raises:
        BadInput: a folder that is no finished run.
    """
    place = Path(path).expanduser()
    if not place.exists():
        return str(path)
    if place.is_dir() and not (place / DONE).is_file():
        raise BadInput(f"{path} has no file 'done': it is not a run directory, or its run never finished.")
    digest = _digest(place)
    remember(digest, place)
    return f"{place.resolve().name}{HASH}{digest}"


def file_title(path: str) -> str:
    """A file's own name, for reports; what is stored under its hash has none."""
    name = Path(path).name
    return f"a file of SHA-256 {name[:12]}…" if re.fullmatch("[0-9a-f]{64}", name) else name


def locate(text: str) -> Path:
    """The file or run directory that `with_hash` wrote down; any other text is a path.

    Raises:
        BadInput: no file of that content is known on this machine.
    """
    match = _WITH_HASH.fullmatch(text)
    if match is None:
        return Path(text)
    name = Path(match["name"]).name
    for path in [*remembered(match["digest"]), Path(name), Path("runs") / name]:
        with suppress(OSError):
            if path.exists() and _digest(path) == match["digest"]:
                return path.resolve()
    raise BadInput(
        f"{name}: no file of that name with the SHA-256 {match['digest']} is known on this machine. Put it into the "
        "current folder."
    )


def remember(digest: str, path: Path) -> None:
    """Note where what has that hash is; not with ``WORKBENCH_CACHE=off``, nor where that cannot be written."""
    with suppress(OSError, UsageError):
        if switched_off_everywhere():
            return
        note = _note(digest)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, json.dumps({"path": str(path.expanduser().resolve())}).encode())


def remembered(digest: str) -> Iterator[Path]:
    """Where that was when it was last used, if it is noted and still there."""
    with suppress(BadInput, OSError, TypeError, KeyError, UsageError):
        path = Path(parse_json(read_file(_note(digest), JSON_BYTES), "note")["path"])
        if path.exists():
            yield path


def _digest(path: Path) -> str:
    return sha256_of(path / DONE if path.is_dir() else path)


def _note(digest: str) -> Path:
    return user_folder() / "places" / f"{digest}.json"
