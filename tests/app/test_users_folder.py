"""The explorer started in a folder where the user has a ``data.py``, ``app.py`` and ``circuits.py`` of his own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.browser.serving import Server, explorer
from workbench import registry

NAMES = ("app", "circuits", "data", "probes")


@pytest.fixture
def server_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text("raise RuntimeError('a module of the user was imported')\n")
    return folder


def texts_of_a_page(server: Server) -> str:
    """Open the first page as a browser does, and return everything that its script sends until it has finished."""
    request = BackMsg()
    request.rerun_script.query_string = "head=1.2"
    url = server.url.replace("http://", "ws://") + "/_stcore/stream"
    texts: list[str] = []
    with connect(url, origin=server.url, subprotocols=["streamlit"], max_size=None) as socket:  # pyright: ignore[reportArgumentType] - a str is one
        socket.send(request.SerializeToString())
        for data in socket:
            message = ForwardMsg.FromString(data if isinstance(data, bytes) else data.encode())
            texts.append(str(message))
            if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY and message.HasField("script_finished"):
                break
    return "\n".join(texts)


def test_modules_of_the_user_are_left_alone(server_folder: Path) -> None:
    with explorer("tiny", server_folder) as server:  # it answers at its health endpoint
        texts = texts_of_a_page(server)
        assert "Head 1.2" in texts and "Internal error" not in texts
        while "rendered in" not in server.log:
            time.sleep(0.05)
        assert "Traceback" not in server.log and "a module of the user" not in server.log


def test_the_worker_is_ours_in_such_a_folder(server_folder: Path) -> None:
    command = [sys.executable, "-m", "app.work.worker"]
    run = subprocess.run(
        command, cwd=server_folder, env=registry.environment(), input="", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
