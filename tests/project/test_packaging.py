"""The built wheel: what it holds, and that names as plain as ours get along with a user's own files."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import workbench
from workbench import registry

PACKAGES = ("workbench", "circuits", "probes", "data", "app")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _call("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, registry.ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the installed wheel alone; what it depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("site")
    _call("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def _call(
    *arguments: object, cwd: Path, path: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_wheel_holds_our_packages_and_their_files_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert "workbench/models/catalog.toml" in names
    for package in PACKAGES:
        files = {p.relative_to(registry.ROOT).as_posix() for p in (registry.ROOT / package).rglob("*") if p.is_file()}
        assert {name for name in files if "__pycache__" not in name} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".bin", ".pt", ".pkl"))]
    assert wheel.name.startswith(f"attention_workbench-{workbench.__version__}-")


def test_the_version_is_said_once_and_the_same():
    project = tomllib.loads((registry.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == workbench.__version__


def test_every_dependency_is_locked():
    project = tomllib.loads((registry.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    lines = (registry.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    names = {one.split(">")[0].split("=")[0].split("[")[0].strip() for one in requirements}
    assert names <= locked
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_folders_of_the_users_with_our_names_are_harmless(installed, tmp_path):
    for name in ("data", "app", "circuits"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    command = _call(installed / "bin" / "workbench", "--help", cwd=tmp_path, path=installed)
    assert "reproduce" in command.stdout
    assert "ioi" in _call(installed / "bin" / "workbench", "tasks", cwd=tmp_path, path=installed).stdout
    assert "ioi" in _call("-m", "workbench", "tasks", cwd=tmp_path, path=installed).stdout
    code = "import workbench; print(workbench.task('ioi').title); print(workbench.__file__)"
    done = _call("-c", code, cwd=tmp_path, path=installed)
    assert str(installed) in done.stdout


SCRIPT = """
import {first}
import {second}
import data, circuits, app, probes
import workbench as wb

assert [module.OWNER for module in (data, circuits, app, probes)] == ["user"] * 4
task = wb.task("ioi", n=2, seed=0)
assert len(task.examples()) == 2
from workbench.registry import FINDINGS
for name in FINDINGS.names():
    assert FINDINGS[name].name == name
import data, circuits
assert data.OWNER == circuits.OWNER == "user"
print("done:", task.title)
"""


@pytest.fixture
def users_folder(tmp_path) -> Path:
    """A folder with files of the user's that have our packages' names; each notes that it was run."""
    for name in ("circuits.py", "app.py", "probes.py"):
        (tmp_path / name).write_text(f"OWNER = 'user'\nprint('ran {name}')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("users_data", "first", "second"), [("data.py", "data", "workbench"), ("data/__init__.py", "workbench", "data")]
)
def test_a_script_beside_files_of_the_users_with_our_names(installed, users_folder, users_data, first, second):
    file = users_folder / users_data
    file.parent.mkdir(exist_ok=True)
    file.write_text("OWNER = 'user'\n")
    script = users_folder / "my_script.py"
    script.write_text(SCRIPT.format(first=first, second=second))
    assert "done: " in _call(script, cwd=users_folder, path=installed).stdout


@pytest.mark.parametrize(
    ("users_data", "command"), [("data.py", ["-m", "workbench"]), ("data/__init__.py", ["bin/workbench"])]
)
def test_the_command_beside_files_of_the_users_with_our_names(installed, users_folder, users_data, command):
    file = users_folder / users_data
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('ran data')\n")
    program = command if command[0] == "-m" else [installed / command[0]]
    assert "ioi" in _call(*program, "tasks", cwd=users_folder, path=installed).stdout
    assert "circuit-reuse" in _call(*program, "findings", cwd=users_folder, path=installed).stdout
    arguments = ("reproduce", "head-ablation", "--model", "tiny", "--n", "4", "--no-cache")
    done = _call(*program, *arguments, cwd=users_folder, path=installed, check=False)
    assert done.returncode in (0, 1) and "Verdict" in done.stdout, done.stdout + done.stderr
    assert "ran " not in done.stdout + done.stderr


def test_a_process_of_ours_finds_our_packages_beside_files_of_the_users(installed, users_folder):
    """As the explorer and its worker are started: with `registry.environment`, from any folder."""
    (users_folder / "data.py").write_text("print('ran data')\n")
    inner = "import app.page, circuits.findings, data.tasks; print(app.__file__, data.__file__)"
    code = (
        "import subprocess, sys; from workbench.registry import environment; "
        f"subprocess.run([sys.executable, '-c', {inner!r}], env=environment(), check=True)"
    )
    done = _call("-c", code, cwd=users_folder, path=installed)
    assert done.stdout.count(str(installed)) == 2 and "ran " not in done.stdout
