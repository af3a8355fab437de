"""Generate text while something is edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core import Edit
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.patching.cone import full_forward_taps
from workbench.patching.edits import Edits
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_inputs, resolve_model
from workbench.patching.values import Mean


def generate(
    model: Any,
    prompt: str | Tensor,
    *,
    edits: Sequence[Edit] | Edit = (),
    max_new_tokens: int = 20,
    mean_over: Any = None,
) -> Any:
    """Continue a prompt greedily, each token chosen by a whole forward under `edits`.

    Positions of edits are those of the prompt, counted from its start. ``"end"`` (or -1) is its last position and every
    later one, each of which was the end when it was made; no position means every one. ``mean`` edits write the mean
    over all positions of `mean_over`; ``patch`` and ``resample`` have no other run to take values from.

    Args:
        model: a `HookedLM`.
        prompt: a text, or ids ``[pos]``.
        edits: edits, or one.
        max_new_tokens: how many tokens at most; an end-of-sequence token ends the text earlier.
        mean_over: inputs that ``mean`` edits average over.

    Returns:
        The whole text, or all ids, as the prompt was given.

    Raises:
        UsageError: an edit that has no meaning here, or a prompt without tokens.
    """
    chosen = (edits,) if isinstance(edits, Edit) else tuple(edits)
    if wrong := [edit for edit in chosen if not isinstance(edit, Edit)]:
        raise UsageError(
            f"generate: {wrong[0]!r} is no wb.Edit; a head is wb.Edit('z', layer, head=index, kind='zero')."
        )
    if not isinstance(prompt, str) and getattr(prompt, "ndim", None) != 1:
        raise UsageError("generate: give one prompt, as a text or as a tensor of its token ids, [pos].")
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int):
        raise UsageError(f"max_new_tokens={max_new_tokens!r}: give a whole number, 0 or more.")
    kinds = {edit.kind for edit in chosen if isinstance(edit.kind, str)}
    if refused := kinds & {"patch", "resample"}:
        raise UsageError(f"generate: {min(refused)} edits take values from another run, and there is none here.")
    if "mean" in kinds and mean_over is None:
        raise UsageError(
            "generate: mean edits need mean_over=inputs whose activations are averaged (over all positions)."
        )
    if max_new_tokens < 0:
        raise UsageError(f"max_new_tokens={max_new_tokens}: give 0 or more.")
    ids = (model.to_tokens(prompt)[0] if isinstance(prompt, str) else prompt).cpu()
    if not len(ids):
        raise UsageError("generate: the prompt has no tokens.")
    resumable, start, made = resolve_model(model), len(ids), [_fixed(model, edit, mean_over) for edit in chosen]
    ends = _end_tokens(model)
    for _ in range(max_new_tokens):
        here = [e for edit in made for e in _now(edit, start, len(ids))]
        changed = Edits.of(Recorder(resumable), _inputs(ids, start), here, None, 0, model)
        taps, expand = full_forward_taps(resumable, [changed.row(0)])
        token = int(resumable.full_forward(ids[None], taps, expand=expand)[0].argmax())
        ids = torch.cat([ids, torch.tensor([token])])
        if token in ends:
            break
    return model.tokenizer.decode(ids) if isinstance(prompt, str) else ids


def _fixed(model: Any, edit: Edit, mean_over: Any) -> Edit:
    """A mean edit as a function that writes the mean, taken once; others as they are."""
    if edit.kind != "mean":
        return edit
    reference = resolve_inputs(mean_over, model)
    mean = Mean(Recorder(resolve_model(model)), reference, reference, edit.site, [edit.layer], over_positions=True)
    value = mean.of(0)[edit.layer][0]
    value = value if edit.head is None else value[edit.head]
    return replace(edit, kind=lambda x: value.to(x).expand_as(x))


def _now(edit: Edit, start: int, length: int) -> list[Edit]:
    """What an edit is while the text has `length` tokens: one at the end holds for all that was generated, too."""
    if edit.position in ("end", -1):
        return [replace(edit, position=place) for place in range(start - 1, length)]
    if isinstance(edit.position, int) and edit.position < 0:
        return [replace(edit, position=start + edit.position)]
    return [edit]


def _inputs(ids: Int[Tensor, "pos"], start: int) -> PairedInputs:
    nothing: tuple[tuple[int, ...], ...] = ((),)
    return PairedInputs("text", (ids,), (ids,), nothing, nothing, nothing, ({"end": start - 1},))


def _end_tokens(model: Any) -> set[int]:
    """The tokens that end a text, as the model's own generation configuration says."""
    given = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None)
    return set(given) if isinstance(given, list) else set() if given is None else {given}
