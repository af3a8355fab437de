"""Packages that serve as oracles: fetched once with pip, pinned by SHA-256 and unpacked beside the models that tests
fetch. They are not installed, and nothing of theirs is imported except by the test that compares with it.

pip's own configuration decides where it looks. What cannot be fetched fails the test that needs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import filelock

from workbench.models.sources import store


@dataclass(frozen=True)
class Package:
    """A release of a package: a wheel, or a source archive whose packages lie in ``src/``."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> Path:
        """The folder that holds its packages; fetched where it is not yet on this machine.

        Raises:
            subprocess.CalledProcessError: pip cannot fetch it, or the index has another file under that version; pip's
                messages are among the test's output.
        """
        base = store.folder().parent / "unpacked"
        target = base / f"{self.name}-{self.version}-{self.sha256[:12]}"
        base.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=base) as work:
                    archive = self._fetch(Path(work))
                    unpack(archive, Path(work) / "unpacked")
                    (Path(work) / "unpacked").rename(target)
        sources = target / f"{self.name}-{self.version}" / "src"
        return sources if sources.exists() else target

    @contextmanager
    def importable(self) -> Iterator[Path]:
        """Its packages can be imported, and what they warn of is not an error."""
        folder = str(self.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.path.insert(0, folder)
            try:
                yield Path(folder)
            finally:
                sys.path.remove(folder)

    def module(self, name: str) -> ModuleType:
        """``module("natten.functional")``: a module that is imported as part of its package."""
        with self.importable():
            return importlib.import_module(name)

    def file(self, path: str) -> ModuleType:
        """``file("fla/ops/linear_attn/naive.py")``: one file as a module of its own; its package is not imported."""
        location = self.folder / path
        name = f"unpacked_{self.name}_{path.removesuffix('.py')}".replace("-", "_").replace("/", "_")
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, location)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[name] = module
        return sys.modules[name]

    def _fetch(self, folder: Path) -> Path:
        """The archive. pip compares the hash before it reads what the archive requires, which for a source archive runs
        its set-up: in the environment of the tests, since another one would get its own torch."""
        (folder / "requirements.txt").write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        command = [
            sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-input",
            "--no-cache-dir", "--disable-pip-version-check", "--require-hashes", "--dest", str(folder / "archive"),
            "--requirement", str(folder / "requirements.txt"),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(folder)})
        (archive,) = (folder / "archive").iterdir()
        assert store.sha256(archive) == self.sha256
        return archive


def unpack(archive: Path, folder: Path) -> None:
    """A wheel or a ``.tar.gz`` into a new folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        return
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


NATTEN = Package("natten", "0.21.7", "8417236b74db079b2d23899ec8f77514fb2dc73d4bbd6b346a45b6967fc05ffb")
FLA_CORE = Package("fla-core", "0.6.0", "b0708b70e0b119cd58a0a5146ea56cb175cef6ed969d8ac60267e3e077ce3ebd")
