"""The explorer's worker: a real process that sweeps, tells how far it is, stops, and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import workbench as wb
from app import upload_store
from app.work import jobs as jobs_module
from app.work import result_files
from app.work.jobs import Job, Jobs
from app.work.sweep_results import SWEEPS

PROMPTS = {"task": "ioi", "n": 6, "seed": 0}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """One for all tests here, each of which leaves no job behind: a worker that starts imports for seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORKBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patched.setenv("WORKBENCH_CACHE", "on")
        started = Jobs()
        yield started
        started.close()


def asked(prompts: dict[str, Any] = PROMPTS, **arguments: Any) -> tuple[str, dict[str, Any]]:
    key = result_files.result_key(SWEEPS, "tiny", wb.load("tiny"), prompts, arguments)
    return key, {"kind": SWEEPS, "model": "tiny", "prompts": prompts, "arguments": arguments}


def until(jobs: Jobs, number: int, reached: Callable[[Job], bool], seconds: float = 200) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.get(number)
        assert job is not None
        if reached(job):
            return job
        time.sleep(0.02)
    raise AssertionError(f"{jobs.get(number)} after {seconds} s")


def test_a_sweep_of_the_worker_is_the_sweep(jobs: Jobs) -> None:
    job = until(jobs, jobs.submit(*asked(site="z")).id, lambda job: job.is_finished)
    assert (job.state, job.error) == ("done", "")
    found, wanted = wb.Sweep.load(job.path), wb.sweep(wb.load("tiny"), wb.task("ioi", n=6, seed=0), cache=False)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)
    assert jobs.newest(job.key) == job


def test_pairs_of_a_page_are_swept(jobs: Jobs) -> None:
    text = "Mary and John went out, {} gave a drink to"
    pair = {"clean": text.format("John"), "corrupt": text.format("Mary"), "answer": " Mary", "wrong": " John"}
    line = json.dumps(pair)
    name = upload_store.save((line + "\n").encode())
    job = until(jobs, jobs.submit(*asked({"pairs": name})).id, lambda job: job.is_finished)
    assert job.state == "done" and wb.Sweep.load(job.path).n == 1


def test_what_cannot_be_done_fails_in_one_line_and_the_next_job_begins(jobs: Jobs) -> None:
    wrong, right = jobs.submit(*asked(site="nonsense")), jobs.submit(*asked())
    assert all(job.id == wrong.id for job in jobs.unfinished(right.id))
    failed = until(jobs, wrong.id, lambda job: job.is_finished)
    assert failed.state == "failed" and "nonsense" in failed.error and "\n" not in failed.error
    assert until(jobs, right.id, lambda job: job.is_finished).state == "done"


def test_a_job_that_waits_or_runs_is_not_submitted_twice(jobs: Jobs) -> None:
    new = {"task": "ioi", "n": 6, "seed": 4}
    first = jobs.submit(*asked(new))
    assert jobs.submit(*asked(new)).id == first.id
    until(jobs, first.id, lambda job: job.is_finished)
    again = jobs.submit(*asked(new))
    assert again.id != first.id and until(jobs, again.id, lambda job: job.is_finished).state == "done"


def test_stopping_keeps_what_is_done(jobs: Jobs) -> None:
    large = {"task": "ioi", "n": 80, "seed": 0}
    job = jobs.submit(*asked(large, by=["head", "position"]))
    until(jobs, job.id, lambda job: job.done > 0)
    began = time.monotonic()
    jobs.stop(job.id)
    stopped = until(jobs, job.id, lambda job: job.is_finished)
    assert stopped.state == "stopped" and time.monotonic() - began < 3 and 0 < stopped.done < stopped.total
    again = jobs.submit(*asked(large, by=["head", "position"]))
    assert until(jobs, again.id, lambda job: job.is_finished, 300).state == "done"


def test_a_worker_that_dies_is_replaced(jobs: Jobs) -> None:
    job = jobs.submit(*asked({"task": "ioi", "n": 80, "seed": 1}, by=["head", "position"]))
    until(jobs, job.id, lambda job: job.state == "running")
    assert jobs._process is not None
    waits = jobs.submit(*asked({"task": "ioi", "n": 3, "seed": 5}))
    os.kill(jobs._process.pid, signal.SIGTERM)
    failed = until(jobs, job.id, lambda job: job.is_finished)
    assert failed.state == "failed" and "worker process ended" in failed.error
    assert until(jobs, waits.id, lambda job: job.is_finished).state == "done"
    assert until(jobs, jobs.submit(*asked()).id, lambda job: job.is_finished).state == "done"


def test_a_job_that_waits_is_stopped_at_once(jobs: Jobs) -> None:
    first, second = (jobs.submit(*asked({"task": "ioi", "n": 80, "seed": seed})) for seed in (2, 3))
    assert [job.id for job in jobs.unfinished(second.id)] == [first.id]
    jobs.stop(second.id)
    stopped = jobs.get(second.id)
    assert stopped is not None and stopped.state == "stopped"
    jobs.stop(first.id)
    until(jobs, first.id, lambda job: job.is_finished)
    third = until(jobs, jobs.submit(*asked()).id, lambda job: job.is_finished)
    assert third.state == "done" and jobs.get(second.id) == stopped


def test_a_worker_that_cannot_start_is_not_started_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    real = jobs_module.subprocess.Popen

    def popen(command: list[str], **given: Any) -> Any:
        started.append(command)
        return real(["false"], **given)

    monkeypatch.setattr(jobs_module.subprocess, "Popen", popen)
    broken = Jobs()
    time.sleep(0.5)
    assert len(started) == 1
    job = until(broken, broken.submit(*asked()).id, lambda job: job.is_finished)
    assert job.state == "failed" and len(started) == 2
    broken.close()
