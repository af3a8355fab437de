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
        here = {p.relative_to(registry.ROOT).as_posix() for p in (registry.ROOT / package).rglob("*") if p.is_file()}
        assert {name for name in here if "__pycache__" not in name} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".bin", ".pt", ".pkl"))]
    assert wheel.name.startswith(f"attention_workbench-{workbench.__version__}-")


def test_the_version_is_said_once_and_the_same():
    project = tomllib.loads((registry.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == workbench.__version__


def test_every_dependency_is_locked():
    project = tomllib.loads((registry.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = (registry.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    names = {one.split(">")[0].split("=")[0].split("[")[0].strip() for one in wanted}
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


@pytest.mark.parametrize("theirs", ["data.py", "data/__init__.py"])
def test_a_file_of_the_users_that_hides_ours_is_named_and_not_run(installed, tmp_path, theirs):
    file = tmp_path / theirs
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('theirs was run')")
    done = _call("-m", "workbench", "tasks", cwd=tmp_path, path=installed, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert str(file) in done.stderr and str(installed / "data") in done.stderr and "Rename" in done.stderr
    done = _call("-c", "import workbench; workbench.task('ioi')", cwd=tmp_path, path=installed, check=False)
    assert done.returncode == 1 and "ShadowedPackage" in done.stderr and "theirs was run" not in done.stdout
    # The command itself does not look for packages in the folder it is run from.
    assert "ioi" in _call(installed / "bin" / "workbench", "tasks", cwd=tmp_path, path=installed).stdout
