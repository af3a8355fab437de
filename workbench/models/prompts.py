"""From texts and tasks to the inputs of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.inputs.paired import PairedInputs
from workbench.models.token_ids import check_ids


def prepare(model: Any, task: Any, argument: str) -> PairedInputs:
    """Tokenised inputs of a task, of pairs or of texts (whose two runs are then the same); inputs as they are.

    Raises:
        UsageError: something else, named as the `argument` that holds it, or ids that the model cannot read.
    """
    if isinstance(task, PairedInputs):
        most = model.most_positions
        for run in ("clean", "corrupt"):
            for i, ids in enumerate(getattr(task, run)):
                check_ids(f"{run}[{i}]", ids, model.cfg.d_vocab, most, "the token ids of one prompt, [pos]", ndim=1)
        return task
    texts: list[Any] = [task] if isinstance(task, str) else list(task) if isinstance(task, list | tuple) else []
    if texts and all(isinstance(text, str) for text in texts):
        _require_tokenizer(model, task, argument)
        rows = [list(model.tokenizer(text)["input_ids"]) for text in texts]
        if empty := [text for text, row in zip(texts, rows, strict=True) if not row]:
            raise arguments.refusal(argument, task, "texts that have tokens", because=f"{empty[0]!r} has none")
        return unpaired(model, [torch.tensor(row) for row in rows], texts, argument)
    if (modality := getattr(task, "modality", "language")) != "language" and not isinstance(task, type):
        why = f"this is a language model, and these are {modality} inputs"
        raise arguments.refusal(argument, task, "a task, pairs or texts", because=why)
    tokenise: Any = getattr(task, "inputs", None)
    if tokenise is None or isinstance(task, type):
        do = "Use wb.task(name), wb.pairs(...), wb.read_pairs(path) or texts."
        raise arguments.refusal(argument, task, "a task, pairs or texts", do)
    _require_tokenizer(model, task, argument)
    return tokenise(model.tokenizer, max_length=model.cfg.n_ctx or None)


def _require_tokenizer(model: Any, task: Any, argument: str) -> None:
    if model.tokenizer is None:
        raise arguments.refusal(argument, task, "tokenised wb.PairedInputs", because="the model has no tokenizer")


def unpaired(model: Any, ids: Sequence[Tensor], texts: Sequence[str] = (), argument: str = "prompt") -> PairedInputs:
    """Prompts that stand alone, ids ``[pos]`` each: no answers, and both runs of each are the same.

    Raises:
        UsageError: ids that the model cannot read, or more than its context; named as the `argument` that holds them.
    """
    expected = "a text, or the token ids of one prompt, [pos]"
    rows = tuple(check_ids(argument, row, model.cfg.d_vocab, model.cfg.n_ctx, expected, ndim=1) for row in ids)
    both = tuple((text, text) for text in texts)
    return PairedInputs("texts", rows, rows, positions=tuple({"end": len(row) - 1} for row in rows), texts=both)


def chat_ids(model: Any, prompt: Any) -> Int[Tensor, "pos"]:
    """The token ids of a user's message in the tokenizer's own chat template, up to where the answer begins.

    Raises:
        UsageError: no text, a tokenizer without a chat template, or a text that the template refuses.
    """
    arguments.text(
        "prompt", prompt, "a text, what the user says", do="Token ids are continued as they are, without chat."
    )
    template = getattr(model.tokenizer, "chat_template", None)
    if not template:
        why = "the model has no tokenizer" if model.tokenizer is None else "the model's tokenizer has no chat template"
        raise arguments.refusal("chat", True, "False", because=why)
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": prompt}]
    try:
        encoded = model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    except (TemplateError, ValueError) as error:
        why = f"the model's chat template refuses it: {' '.join(str(error).split())}"
        raise arguments.refusal("prompt", prompt, "a text that the chat template takes", because=why) from None
    return torch.tensor(encoded["input_ids"], dtype=torch.long)
