"""The explorer's worker: a real process that sweeps, reports its progress, stops, and continues where it was.

Tests wait for a state of a job, however long the machine takes; pytest's own time limit ends a test that hangs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import workbench as wb
from app.work import jobs as jobs_module
from app.work.jobs import Job, JobQueue
from app.work.result_files import SWEEPS, result_key
from app.work.stored_pairs import StoredPairs

PROMPTS = {"task": "ioi", "n": 6, "seed": 0}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobQueue]:
    """One for all tests of this file, each of which finishes its jobs: a worker imports for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WORKBENCH_CACHE", "on")
        queue = JobQueue()
        yield queue
        queue.close()


def sweep_request(prompts: dict[str, Any] = PROMPTS, **arguments: Any) -> tuple[str, dict[str, Any]]:
    key = result_key(SWEEPS, "tiny", wb.load("tiny"), prompts, arguments)
    return key, {"kind": SWEEPS, "model": "tiny", "prompts": prompts, "arguments": arguments}


def wait_until(jobs: JobQueue, number: int, condition: Callable[[Job], bool]) -> Job:
    while True:
        job = jobs.get(number)
        assert job is not None
        if condition(job):
            return job
        time.sleep(0.02)


def wait_finished(jobs: JobQueue, number: int) -> Job:
    return wait_until(jobs, number, lambda job: job.is_finished)


def test_a_sweep_of_the_worker_is_the_sweep(jobs: JobQueue) -> None:
    job = wait_finished(jobs, jobs.submit(*sweep_request(site="z")).id)
    assert (job.state, job.error) == ("done", "")
    sweep, expected = wb.Sweep.load(job.path), wb.sweep(wb.load("tiny"), wb.task("ioi", n=6, seed=0), cache=False)
    np.testing.assert_allclose(sweep.values, expected.values, atol=1e-5)
    assert jobs.newest(job.key) == job


def test_uploaded_pairs_are_swept(jobs: JobQueue) -> None:
    text = "Mary and John went out, {} gave a drink to"
    pair = {"clean": text.format("John"), "corrupt": text.format("Mary"), "answer": " Mary", "wrong": " John"}
    name = StoredPairs((pair,), ("line 1",), "my.jsonl").save()
    job = wait_finished(jobs, jobs.submit(*sweep_request({"pairs": name})).id)
    assert job.state == "done" and wb.Sweep.load(job.path).n == 1


def test_a_failed_job_has_an_error_of_one_line_and_the_next_job_starts(jobs: JobQueue) -> None:
    wrong, right = jobs.submit(*sweep_request(site="nonsense")), jobs.submit(*sweep_request())
    assert all(job.id == wrong.id for job in jobs.unfinished(right.id))
    failed = wait_finished(jobs, wrong.id)
    assert failed.state == "failed" and "nonsense" in failed.error and "\n" not in failed.error
    assert wait_finished(jobs, right.id).state == "done"


def test_an_unfinished_job_is_not_submitted_twice(jobs: JobQueue) -> None:
    prompts = {"task": "ioi", "n": 6, "seed": 4}
    first = jobs.submit(*sweep_request(prompts))
    assert jobs.submit(*sweep_request(prompts)).id == first.id
    wait_finished(jobs, first.id)
    again = jobs.submit(*sweep_request(prompts))
    assert again.id != first.id and wait_finished(jobs, again.id).state == "done"


def test_a_stopped_job_continues_where_it_was(jobs: JobQueue) -> None:
    large = {"task": "ioi", "n": 80, "seed": 0}
    batch = 640  # edits of the first batch: stored when all are done, which a sweep from the start reports in parts
    job = jobs.submit(*sweep_request(large, by=["head", "position"]))
    wait_until(jobs, job.id, lambda job: job.done > batch)
    jobs.stop(job.id)
    stopped = wait_finished(jobs, job.id)
    assert stopped.state == "stopped" and batch < stopped.done < stopped.total
    again = jobs.submit(*sweep_request(large, by=["head", "position"]))
    first_progress = wait_until(jobs, again.id, lambda job: job.done > 0)
    assert first_progress.done >= batch
    assert wait_finished(jobs, again.id).state == "done"


def test_a_worker_that_dies_is_replaced(jobs: JobQueue) -> None:
    job = jobs.submit(*sweep_request({"task": "ioi", "n": 80, "seed": 1}, by=["head", "position"]))
    wait_until(jobs, job.id, lambda job: job.state == "running")
    assert jobs._process is not None
    waiting = jobs.submit(*sweep_request({"task": "ioi", "n": 3, "seed": 5}))
    os.kill(jobs._process.pid, signal.SIGTERM)
    failed = wait_finished(jobs, job.id)
    assert failed.state == "failed" and "worker process ended" in failed.error
    assert wait_finished(jobs, waiting.id).state == "done"
    assert wait_finished(jobs, jobs.submit(*sweep_request()).id).state == "done"


def test_a_waiting_job_is_stopped_at_once(jobs: JobQueue) -> None:
    first, second = (jobs.submit(*sweep_request({"task": "ioi", "n": 80, "seed": seed})) for seed in (2, 3))
    assert [job.id for job in jobs.unfinished(second.id)] == [first.id]
    jobs.stop(second.id)
    stopped = jobs.get(second.id)
    assert stopped is not None and stopped.state == "stopped"
    jobs.stop(first.id)
    wait_finished(jobs, first.id)
    third = wait_finished(jobs, jobs.submit(*sweep_request()).id)
    assert third.state == "done" and jobs.get(second.id) == stopped


def test_a_worker_that_cannot_start_is_not_restarted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[object] = []
    real = jobs_module.subprocess.Popen

    def popen(command: list[str], **kwargs: Any) -> Any:
        processes.append(command)
        return real(["false"], **kwargs)

    monkeypatch.setattr(jobs_module.subprocess, "Popen", popen)
    broken = JobQueue()
    assert not processes  # before anything needs one
    broken.warm("tiny")
    broken._listener.join()  # of the process, which has ended
    broken.warm("tiny")
    assert len(processes) == 1
    job = wait_finished(broken, broken.submit(*sweep_request()).id)
    assert job.state == "failed" and len(processes) == 2
    broken.close()
