"""Generate text while something is edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.core import Edit
from workbench.inputs.paired import PairedInputs
from workbench.models.token_ids import check_ids
from workbench.patching.cone import full_forward_taps
from workbench.patching.edits import Edits, edit_list
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import require_language, resolve_inputs, resolve_model
from workbench.patching.values import Mean


def generate(
    model: Any,
    prompt: str | Tensor,
    *,
    edits: Sequence[Edit] | Edit = (),
    max_new_tokens: int = 20,
    mean_over: Any = None,
) -> Any:
    """Continue a prompt greedily, each token chosen by a full forward under `edits`.

    Positions of edits are those of the prompt, counted from its start. ``"end"`` (or -1) is its last position and every
    generated one, each of which is the last when its successor is computed; no position means every one. ``mean`` edits
    write the mean over all positions of `mean_over`; ``patch`` and ``resample`` are refused: there is no other run.

    Args:
        model: a `HookedLM`.
        prompt: a text, or ids ``[pos]``.
        edits: edits, or one.
        max_new_tokens: how many tokens at most; an end-of-sequence token ends the text earlier.
        mean_over: inputs that ``mean`` edits average over.

    Returns:
        The full text, or all ids, like the prompt.

    Raises:
        UsageError: an edit that has no meaning here, a prompt without tokens, or ids that the model cannot read.

    Examples:
        >>> model = wb.load("tiny")
        >>> edit = wb.Edit("z", 1, head=3, kind="zero")
        >>> text = wb.generate(model, "Then, Mary and", edits=edit, max_new_tokens=2)
        >>> text.startswith("Then, Mary and")
        True
    """
    require_language(model, "wb.generate continues a text")
    requested = edit_list("edits", edits)
    if not isinstance(prompt, str) and not (isinstance(prompt, Tensor) and prompt.ndim == 1):
        raise arguments.refusal("prompt", prompt, "one prompt, a text or a tensor of its token ids, [pos]")
    arguments.whole_number("max_new_tokens", max_new_tokens, at_least=0)
    kinds = {edit.kind for edit in requested if isinstance(edit.kind, str)}
    if refused := kinds & {"patch", "resample"}:
        why = f"{min(refused)!r} takes its values from another run, and here there is none"
        raise arguments.refusal("edits", list(requested), "edits of other kinds", because=why)
    if "mean" in kinds and mean_over is None:
        why = "kind='mean' takes the mean over them, at all positions"
        raise arguments.refusal("mean_over", None, "inputs whose activations are averaged", because=why)
    if "mean" in kinds or mean_over is not None:
        mean_over = resolve_inputs(mean_over, model, "mean_over")
    if isinstance(prompt, str) and model.tokenizer is None:
        raise arguments.refusal("prompt", prompt, "token ids, [pos]", because="the model has no tokenizer")
    ids = torch.tensor(model.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt
    if not len(ids):
        raise arguments.refusal("prompt", prompt, "a prompt that has tokens")
    ids = check_ids("prompt", ids, model.cfg.d_vocab, model.cfg.n_ctx, "a text or its token ids, [pos]", ndim=1).cpu()
    if (room := model.cfg.n_ctx - len(ids)) < max_new_tokens and model.cfg.n_ctx:
        why = f"the prompt has {len(ids)} tokens and the context length of the model is {model.cfg.n_ctx}"
        raise arguments.refusal("max_new_tokens", max_new_tokens, f"at most {max(0, room)}", because=why)
    resumable, start = resolve_model(model), len(ids)
    fixed = [_with_fixed_mean(model, edit, mean_over) for edit in requested]
    end_tokens = _end_tokens(model)
    for _ in range(max_new_tokens):
        step_edits = [e for edit in fixed for e in _at_length(edit, start, len(ids))]
        resolved = Edits.of(Recorder(resumable), _inputs(ids, start), step_edits, None, 0, model)
        taps, expand = full_forward_taps(resumable, [resolved.edited_run(0)])
        token = int(resumable.full_forward(ids[None], taps, expand=expand)[0].argmax())
        ids = torch.cat([ids, torch.tensor([token])])
        if token in end_tokens:
            break
    return model.tokenizer.decode(ids) if isinstance(prompt, str) else ids


def _with_fixed_mean(model: Any, edit: Edit, mean_over: Any) -> Edit:
    """A mean edit as a function that writes the mean, computed once; others as they are."""
    if edit.kind != "mean":
        return edit
    reference = resolve_inputs(mean_over, model)
    mean = Mean(Recorder(resolve_model(model)), reference, reference, edit.site, [edit.layer], over_positions=True)
    value = mean.of(0)[edit.layer][0]
    value = value if edit.head is None else value[edit.head]
    return replace(edit, kind=lambda x: value.to(x).expand_as(x))


def _at_length(edit: Edit, start: int, length: int) -> list[Edit]:
    """An edit while the text has `length` tokens: one at the end applies to all generated positions, too."""
    if edit.position in ("end", -1):
        return [replace(edit, position=position) for position in range(start - 1, length)]
    if isinstance(edit.position, int) and edit.position < 0:
        return [replace(edit, position=start + edit.position)]
    return [edit]


def _inputs(ids: Int[Tensor, "pos"], start: int) -> PairedInputs:
    nothing: tuple[tuple[int, ...], ...] = ((),)
    return PairedInputs("text", (ids,), (ids,), nothing, nothing, nothing, ({"end": start - 1},))


def _end_tokens(model: Any) -> set[int]:
    """The tokens that end a text, as the model's own generation configuration says."""
    ids = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None)
    return set(ids) if isinstance(ids, list) else set() if ids is None else {ids}
