"""``workbench explore``: the command and the environment of the server."""

from __future__ import annotations

import json
import socket
import subprocess
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from app import models
from workbench.registry import ROOT


@pytest.fixture
def port() -> str:
    """One that is free, whatever else runs on this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> Any:
        calls.append((command, env))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_the_server_is_for_this_machine_alone(
    run: Any, commands: list[tuple[list[str], dict[str, str]]], port: str
) -> None:
    assert run("explore", "--model", "tiny", "--port", port)[0] == 0
    ((command, env),) = commands
    options = list(pairwise(command))
    for option in (
        ("--server.address", "127.0.0.1"),
        ("--server.allowedHosts", "localhost"),
        ("--server.allowedHosts", "127.0.0.1"),
        ("--server.enableXsrfProtection", "true"),
        ("--browser.gatherUsageStats", "false"),
        ("--server.port", port),
        ("--server.headless", "true"),
    ):
        assert option in options
    assert str(ROOT / "app" / "served" / "explorer.py") in command
    assert json.loads(env[models.STARTED]) == ["tiny"] and env["PYTHONPATH"].split(":")[0] == str(ROOT)


def test_it_opens_a_browser_when_asked(run: Any, commands: list[tuple[list[str], dict[str, str]]], port: str) -> None:
    run("explore", "--model", "tiny", "--open", "--port", port)
    command = commands[0][0]
    assert command[command.index("--server.headless") + 1] == "false"


@pytest.mark.parametrize(("arguments", "message"), [(["--port", "0"], "--port"), (["--model", "tinny"], "tiny")])
def test_what_makes_no_sense_is_refused(
    run: Any, commands: list[tuple[list[str], dict[str, str]]], arguments: list[str], message: str
) -> None:
    code, _, err = run("explore", *arguments)
    assert code == 2 and message in err and not commands
