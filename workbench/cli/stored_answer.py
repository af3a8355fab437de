"""The answer to a command, kept in the cache: to look at it again takes no model, and nothing of transformers.

An answer is named by everything that it depends on: the command's arguments, the bytes of the user's pairs, the model's
files, our own source files, the installed packages, the environment variables that torch and the like read, the device,
the processor's instructions and torch's settings. Where one of them changes, the answer is computed again.

Files of a model count as unchanged while path, inode, size and both times are the same. The second of them, that of the
last change of the inode, is the system's own and cannot be set; files that changed in the last seconds are not trusted.
When a model is loaded its files are hashed all the same.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cache.own_code import own_code_hash
from workbench.models.sources import files_of

if TYPE_CHECKING:
    import numpy as np

    from workbench.cache import Store

#: Seconds in which a file may be written twice without a trace in its times.
TICK = 2.0
#: Beginnings of the names of environment variables that may change a number, or what is loaded.
VARIABLES = (
    "ACCELERATE", "ATEN", "CUBLAS", "CUDA", "CUDNN", "DNNL", "GOMP", "HF_", "HIP", "KMP", "MKL", "NCCL", "NVIDIA",
    "OMP", "ONEDNN", "OPENBLAS", "PYTORCH", "ROC", "TORCH", "TRANSFORMERS", "TRITON", "WORKBENCH", "XLA",
)  # fmt: skip


class StoredAnswer:
    """The answer to one command.

    Args:
        store: None where nothing is kept.
        facts: the command, its arguments and inputs (JSON-able).
        models: the names of the models that it depends on, as `workbench.load` takes them.

    Attributes:
        warnings: what was warned of while the answer was computed (`noting_warnings`).
    """

    def __init__(self, store: Store | None, facts: Any, *models: str) -> None:
        self._store, self._models = store, models
        self._files = None if store is None else self._all_files()
        self._key: bytes | None = None
        if self._files is not None:
            from workbench.cache.keys import digest

            self._key = digest("answer", facts, *models, self._files, surroundings())
        self.warnings: list[str] = []

    def read(self) -> tuple[Any, dict[str, np.ndarray]] | None:
        """The answer (JSON) and its arrays, with its warnings given again; None where it is not kept."""
        if self._store is None or self._key is None:
            return None
        from workbench.cache.notes import read_note

        note = read_note(self._store, self._key)
        if note is None:
            return None
        keys = {name: self._array(name) for name in note["arrays"]}
        blocks = self._store.read_many(list(keys.values()))
        if len(blocks) < len(keys):
            return None
        for text in note["warnings"]:
            warnings.warn(text, stacklevel=2)
        return note["answer"], {name: blocks[key].numpy() for name, key in keys.items()}

    def write(self, answer: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep an answer, unless files changed meanwhile."""
        if self._store is None or self._key is None or self._files != self._all_files():
            return
        import torch

        from workbench.cache.notes import write_note

        for name, array in arrays.items():
            self._store.put("result", {name: ([self._array(name)], torch.tensor(array)[None])})
        write_note(self._store, self._key, {"answer": answer, "arrays": list(arrays), "warnings": self.warnings})

    @contextmanager
    def noting_warnings(self) -> Iterator[None]:
        """Within the block, what is warned of is noted, too."""
        with warnings.catch_warnings():
            show = warnings.showwarning

            def note(message: Warning | str, *arguments: Any) -> None:
                self.warnings.append(str(message))
                show(message, *arguments)

            warnings.showwarning = note
            yield

    def _all_files(self) -> list[Any] | None:
        files = [files_and_code(model) for model in self._models]
        return None if None in files else files

    def _array(self, name: str) -> bytes:
        from workbench.cache.keys import digest

        return digest(self._key, name)


def files_and_code(model: str) -> list[Any] | None:
    """The files of a model and our own; None where either may be changing."""
    files, own = model_files(model), own_code_hash("workbench", "data")
    return None if files is None or not own else [files, own]


def model_files(name: str) -> list[list[Any]] | None:
    """The files of a model, with what tells that they are unchanged; None where they are not on this machine, or may
    be changing."""
    paths = files_of(name)
    if paths is None:
        return None
    files: list[list[Any]] = []
    for path in sorted(paths):
        try:
            state = path.stat()
        except OSError:
            return None
        if max(state.st_mtime, state.st_ctime) > time.time() - TICK:
            return None
        numbers = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        files.append([str(path.absolute()), *numbers])
    return files


def surroundings() -> list[Any]:
    """What else a number may depend on: Python, packages, variables, device, processor and torch's settings."""
    import torch

    from workbench.models.numeric_settings import numeric_settings

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine: list[Any] = [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    if device.type == "cuda":
        machine += [torch.cuda.get_device_name(device), torch.version.cuda]
    variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    return [sys.version, installed(), variables, str(device), machine, numeric_settings(device)]


def installed() -> list[str]:
    """The installed packages with their versions, as the names of their folders of metadata say them."""
    names: set[str] = set()
    for folder in filter(None, sys.path):
        with suppress(OSError):
            names |= {path.name for path in Path(folder).iterdir() if path.suffix in (".dist-info", ".egg-info")}
    return sorted(names)
