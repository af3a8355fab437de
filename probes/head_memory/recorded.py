"""Keys and values of every key/value head on texts, as attention receives them: rotated, where the model rotates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

import workbench as wb
from workbench import arguments
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.patching.progress import Progress
from workbench.patching.resolve import require_language, resolve_inputs

#: Fewer positions of a text give no spectrum to speak of.
FEWEST = 4


class Recorded(NamedTuple):
    """One text's keys and values."""

    keys: Float[Tensor, "layer kv_head pos d_head"]
    values: Float[Tensor, "layer kv_head pos d_value"]


def cut_texts(model: Any, texts: Sequence[str] | PairedInputs, n_tokens: int | None = None) -> PairedInputs:
    """The first `n_tokens` tokens of each text; as many as the model's context has where that is less.

    Raises:
        UsageError: the model has no keys to record (no language model, or a layer whose operator reads none), or a text
            has fewer tokens.
    """
    require_language(model, "its keys are recorded on texts")
    if unread := [layer for layer, operator in model.operators.items() if "k" in operator.operator.ignores]:
        raise UsageError(
            f"Layer {unread[0]} attends by {model.operators[unread[0]]}, which reads no keys: there is no memory to "
            "measure. Use a model whose operators read keys."
        )
    context = model.cfg.n_ctx or None
    most = min(limit for limit in (n_tokens, context, 10**9) if limit)
    inputs = texts if isinstance(texts, PairedInputs) else _tokenised(model, texts, most)
    shortest = min(map(len, inputs.clean))
    expected = FEWEST if n_tokens is None else most
    if shortest < expected:
        what = f"texts of at least {expected} tokens"
        raise arguments.refusal("texts", texts, what, because=f"the shortest has {shortest}")
    return inputs


def _tokenised(model: Any, texts: Sequence[str], most: int) -> PairedInputs:
    texts = arguments.texts("texts", texts, "texts")
    if model.tokenizer is None:
        raise arguments.refusal("texts", texts, "wb.PairedInputs", because="the model has no tokenizer")
    cut: dict[str, Any] = {"truncation": True, "max_length": most, "return_tensors": "pt"}
    rows = tuple(model.tokenizer(text, **cut)["input_ids"][0] for text in texts)
    bos = model.tokenizer.bos_token if rows and rows[0][0] == model.tokenizer.bos_token_id else None
    return resolve_inputs(PairedInputs("texts", rows, rows, texts=tuple((t, t) for t in texts), bos=bos), model)


def recorded(
    model: Any, inputs: PairedInputs, *, cache: Any = None, progress: Progress | None = None
) -> Iterator[Recorded]:
    """The keys and values of each text in turn, in double precision."""
    record = wb.record(model, inputs, ["k", "v"], cache=cache, progress=progress)
    for keys, values in zip(record.clean["k"], record.clean["v"], strict=True):
        yield Recorded(keys.double().transpose(1, 2).cpu(), values.double().transpose(1, 2).cpu())
