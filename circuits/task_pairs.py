"""Prompts that findings need besides their own: more of the same draw, and those that share a length with another."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import Any

from workbench.errors import BadInput, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.inputs.pairs import Task

#: Prompts over which means are taken, where the task has so many.
REFERENCE = 50


def asked(model: Any, task: Task) -> PairedInputs:
    """The task's prompts in the model's tokens."""
    return task.inputs(model.tokenizer, max_length=model.cfg.n_ctx or None)


def reference(model: Any, task: Task, inputs: PairedInputs, n: int = REFERENCE) -> PairedInputs:
    """The task's prompts and more of the same draw, so that a mean is over several prompts of each length; the prompts
    alone where the task has no more."""
    if len(inputs) >= n:
        return inputs
    try:
        return asked(model, replace(task, n=n))
    except (BadInput, UsageError):
        return inputs


def with_company(inputs: PairedInputs) -> PairedInputs:
    """The prompts that have another of their length: only these can be resampled."""
    count = Counter(len(ids) for ids in inputs.clean)
    return inputs.of([i for i, ids in enumerate(inputs.clean) if count[len(ids)] > 1])


def fingerprint(inputs: PairedInputs) -> str:
    """SHA-256 of the token ids and answers of a task's prompts."""
    rows = [
        [clean.tolist(), corrupt.tolist(), list(answer), list(wrong)]
        for clean, corrupt, answer, wrong in zip(inputs.clean, inputs.corrupt, inputs.answer, inputs.wrong, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
