"""Set-up of every test process, before anything of ours is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

# Two test processes share two cores: one thread each. Read by torch and numpy when they are first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"

# No test reaches the hub: what is not on this machine is refused at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# Arrow may be loaded by a page's thread that ends, after which its own allocator crashes (workbench/cli/explore.py).
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# Tests compute their results; those of the cache name a folder.
os.environ["WORKBENCH_CACHE"] = "off"

# The checks cost time at each call, so timings are taken without them.
if os.environ.get("WORKBENCH_ARRAY_CHECKS", "on") != "off":
    from tests import array_checks

    array_checks.install(["workbench", "circuits", "probes", "data", "app"])


@pytest.fixture(autouse=True, scope="session")
def installed_packages_are_read_once() -> None:
    """For each page that it opens, AppTest reads the metadata of every installed package in search of components: a
    third of a second. They do not change while tests run."""
    if "streamlit.testing.v1" in sys.modules:
        from streamlit.components.v2 import manifest_scanner

        manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs each base run of a language model had."""
    from workbench.models.resumable_layers import ResumableLayers

    batch_sizes: list[int] = []
    original = ResumableLayers.base_run

    def base_run(self: ResumableLayers, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        batch_sizes.append(len(inputs))
        return original(self, inputs, *args, **kwargs)

    monkeypatch.setattr(ResumableLayers, "base_run", base_run)
    return batch_sizes


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``run("tasks", "--json") -> (code, stdout, stderr)`` of the command line."""
    from workbench.cli import main

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call
