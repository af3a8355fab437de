"""The explorer as users start it: ``workbench explore`` in its own process, with its own cache and runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from workbench import registry
from workbench.models import sources

#: Seconds at most until the server answers: generous, for a busy machine.
START_SECONDS = 270


@dataclass(frozen=True)
class Server:
    """A running explorer.

    Attributes:
        url: where it is.
        folder: where it was started; ``cache`` and ``runs`` lie there.
        process: of ``workbench explore``, whose child is the server.
    """

    url: str
    folder: Path
    process: subprocess.Popen[Any]

    def link(self, page: str = "", **query: str) -> str:
        """The URL of a page (the first by default) with its parameters."""
        return f"{self.url}/{page}" + (f"?{urlencode(query)}" if query else "")

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log.txt").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that draws the pages (Linux)."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (pid,) = map(int, children)
        return pid


@contextmanager
def explorer(model: str, folder: Path) -> Iterator[Server]:
    """Start the explorer in `folder`, with its cache there and the user's models; it ends with the block.

    Raises:
        NotAvailable: the model is not on this machine and cannot be fetched.
        RuntimeError: it did not start; the message holds its log.
    """
    sources.fetch(model)
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "models").symlink_to(sources.folder().resolve(), target_is_directory=True)
    environment = registry.environment() | {"WORKBENCH_CACHE_DIR": str(cache), "WORKBENCH_CACHE": "on"}
    port = _free_port()
    command = [sys.executable, "-m", "workbench", "explore", "--model", model, "--port", str(port)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    with (
        (folder / "log.txt").open("wb") as log,
        # A session of its own, so that the server and its worker can be ended together.
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, start_new_session=True, **streams
        ) as process,
    ):
        server = Server(f"http://127.0.0.1:{port}", folder, process)
        try:
            _wait(server)
            yield server
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)


def _wait(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"The explorer does not answer at {server.url}. Its log:\n{server.log}")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
