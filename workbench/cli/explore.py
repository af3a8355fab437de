"""``workbench explore``: start the web page in which heads are browsed and patched."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from typing import Annotated

import typer

from workbench import registry
from workbench.cli.choices import Model, check_model
from workbench.errors import BadInput, UsageError
from workbench.models import catalog
from workbench.models.catalog import DEFAULT

#: Settings of the server: for one user on this machine.
SETTINGS: dict[str, str | tuple[str, ...]] = {
    "server.address": "127.0.0.1",
    "server.allowedHosts": ("localhost", "127.0.0.1"),
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.maxUploadSize": "8",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    # With Streamlit's own colour some text would have a contrast below 4.5.
    "theme.light.primaryColor": "#0b5394",
    "theme.dark.primaryColor": "#7ab8f5",
    "runner.postScriptGC": "false",  # it would walk all of torch after each run of a page
}

#: Additional environment variables of the server.
ENVIRONMENT = {
    # Threads of torch would spin while they wait, and page, worker and browser share the cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Arrow's own allocator may crash when the thread that loaded it has ended, as after each run of a page: issues
    # 50471 and 50908 of apache/arrow (pyarrow 25). With pyarrow 26 the tests crashed once in that way.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def explore(
    model: Model = DEFAULT,
    port: Annotated[int, typer.Option(metavar="P", min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> int:
    """Browse and patch heads in a web page on this machine. Ctrl-C stops it."""
    check_model(model, tuple(catalog.MODALITIES))
    if importlib.util.find_spec("streamlit") is None:
        raise BadInput("The explorer needs Streamlit. Install it: pip install 'attention-workbench[explorer]'.")
    if _is_in_use(port):
        raise UsageError(
            f"port={port}: expected a free port, because this one is in use. Choose another: --port {port + 1}."
        )
    settings: dict[str, str | tuple[str, ...]] = {
        **SETTINGS,
        "server.port": str(port),
        "server.headless": str(not open_).lower(),
    }
    command = [sys.executable, "-m", "app.served", "run", str(registry.ROOT / "app" / "served" / "explorer.py")]
    for name, value in settings.items():
        for text in value if isinstance(value, tuple) else (value,):
            command += [f"--{name}", text]
    env = registry.environment() | ENVIRONMENT | {"WORKBENCH_EXPLORE_MODELS": json.dumps([model])}
    print(f"The explorer is at http://127.0.0.1:{port} (Ctrl-C stops it).", file=sys.stderr)
    return subprocess.run(command, env=env, check=False).returncode


def _is_in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
