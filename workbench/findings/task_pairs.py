"""A task's prompt pairs as studies use them: in the model's tokens, by length, and by their hash."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.inputs.paired import PairedInputs
    from workbench.inputs.pairs import Task


def tokenize(model: Any, task: Task) -> PairedInputs:
    """The task's prompts in the model's tokens.

    Raises:
        BadInput: the task does not apply to the model's tokeniser.
        UsageError: it has fewer pairs than it was asked for.
    """
    return task.inputs(model.tokenizer, max_length=model.cfg.n_ctx or None)


def sharing_a_length(pairs: PairedInputs) -> PairedInputs:
    """The prompts that have the length of another one: only these can be resampled."""
    count = Counter(len(ids) for ids in pairs.clean)
    return pairs.of([i for i, ids in enumerate(pairs.clean) if count[len(ids)] > 1])


def fingerprint(pairs: PairedInputs) -> str:
    """SHA-256 of the token ids and answers of the prompts."""
    rows = [
        [clean.tolist(), corrupt.tolist(), list(answer), list(wrong)]
        for clean, corrupt, answer, wrong in zip(pairs.clean, pairs.corrupt, pairs.answer, pairs.wrong, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
