"""From texts and tasks to the inputs of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs


def prepare(model: Any, task: Any, argument: str) -> PairedInputs:
    """Tokenised inputs of a task, of pairs or of texts (whose two runs are then the same); inputs as they are.

    Raises:
        UsageError: something else, named as the `argument` that holds it.
    """
    if isinstance(task, PairedInputs):
        return task
    texts: list[Any] = [task] if isinstance(task, str) else list(task) if isinstance(task, list | tuple) else []
    if texts and all(isinstance(text, str) for text in texts):
        _require_tokenizer(model, task, argument)
        if empty := [text for text in texts if not model.tokenizer(text)["input_ids"]]:
            raise arguments.refusal(argument, task, "texts that have tokens", because=f"{empty[0]!r} has none")
        ids = [torch.as_tensor(model.to_tokens(text)[0]).long().cpu() for text in texts]
        return unpaired(model, ids, texts)
    tokenise: Any = getattr(task, "inputs", None)
    if tokenise is None or isinstance(task, type):
        do = "Use wb.task(name), wb.pairs(...), wb.read_pairs(path) or texts."
        raise arguments.refusal(argument, task, "a task, pairs or texts", do)
    _require_tokenizer(model, task, argument)
    return tokenise(model.tokenizer, max_length=model.cfg.n_ctx or None)


def _require_tokenizer(model: Any, task: Any, argument: str) -> None:
    if model.tokenizer is None:
        raise arguments.refusal(argument, task, "tokenised wb.PairedInputs", because="the model has no tokenizer")


def unpaired(model: Any, ids: Sequence[Int[Tensor, "pos"]], texts: Sequence[str] = ()) -> PairedInputs:
    """Prompts that stand alone: no answers, and both runs of each are the same.

    Raises:
        UsageError: one is longer than the model's context.
    """
    longest = model.cfg.n_ctx
    if longest and (long := [len(row) for row in ids if len(row) > longest]):
        raise UsageError(f"A text has {long[0]} tokens, and this model's context length is {longest}. Shorten it.")
    rows, both = tuple(ids), tuple((text, text) for text in texts)
    return PairedInputs("texts", rows, rows, positions=tuple({"end": len(row) - 1} for row in rows), texts=both)
