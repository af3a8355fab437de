"""Generate text while something is edited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.core import Edit, full_name
from workbench.inputs.paired import PairedInputs
from workbench.models.precision import at_least_float32
from workbench.models.prompts import chat_ids
from workbench.models.token_ids import check_ids
from workbench.patching.cone import full_forward_taps
from workbench.patching.edits import Edits, edit_list
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import require_language, resolve_inputs, resolve_model
from workbench.patching.values import Mean

if TYPE_CHECKING:
    from workbench.plotting.generations import Generations


def generate(
    model: Any,
    prompt: str | Tensor,
    *,
    edits: Sequence[Edit] | Edit = (),
    max_new_tokens: int = 20,
    mean_over: Any = None,
    chat: bool = False,
) -> Any:
    """Continue a prompt greedily, each token chosen by a full forward under `edits`.

    Positions of edits are those of the prompt, counted from its start (with `chat`, of the whole text that the template
    makes of it). ``"end"`` (or -1) is its last position and every generated one, each of which is the last when its
    successor is computed; no position means every one. ``mean`` edits write the mean over all positions of
    `mean_over`; ``patch`` and ``resample`` are refused: there is no other run.

    Args:
        model: a `HookedLM`.
        prompt: a text, or ids ``[pos]``.
        edits: edits, or one.
        max_new_tokens: how many tokens at most; an end-of-sequence token ends the text earlier.
        mean_over: inputs that ``mean`` edits average over.
        chat: whether the text is what a user says: it is put into the tokenizer's chat template, up to where the
            model's answer begins (``add_generation_prompt=True``).

    Returns:
        The full text, or all ids, like the prompt.

    Raises:
        UsageError: an edit that has no meaning here, a prompt without tokens, ids that the model cannot read, or `chat`
            where the tokenizer has no chat template.

    Examples:
        >>> model = wb.load("tiny")
        >>> edit = wb.Edit("z", 1, head=3, kind="zero")
        >>> text = wb.generate(model, "Then, Mary and", edits=edit, max_new_tokens=2)
        >>> text.startswith("Then, Mary and")
        True
    """
    require_language(model, "wb.generate continues a text")
    continuation = _Continuation.of(model, prompt, edits, max_new_tokens, mean_over, chat)
    tokens = [token for token, _ in continuation.tokens(continuation.edits)]
    ids = torch.cat([continuation.ids, torch.tensor(tokens, dtype=torch.long)])
    return model.tokenizer.decode(ids) if isinstance(prompt, str) else ids


def generations(
    model: Any,
    prompt: str | Tensor,
    *,
    edits: Sequence[Edit] | Edit = (),
    max_new_tokens: int = 20,
    mean_over: Any = None,
    chat: bool = False,
    progress: Progress | None = None,
) -> Generations:
    """Continue a prompt greedily without and with `edits`: both texts, with the probability of each token and the first
    one that differs. In a notebook the result is displayed as both texts side by side.

    Each token is the likeliest one after a full forward over all that stands before it; its probability is the softmax
    of that forward's logits, in float32 at least. Edits act as in `wb.generate`, and `chat` is that of `wb.generate`:
    positions of edits then count in the text that the template makes (``prompt_tokens`` of the result).

    Args:
        model, prompt, edits, max_new_tokens, mean_over, chat: as in `wb.generate`.
        progress: called as ``progress(done, total, what)`` after each token.

    Returns:
        `Generations`: ``before`` and ``after``, each with ``text``, ``tokens``, ``ids`` and ``probabilities``;
        ``first_difference`` and ``table()``.

    Raises:
        UsageError: as `wb.generate`.

    Examples:
        >>> edit = wb.Edit("z", 1, head=3, kind="zero")
        >>> both = wb.generations(wb.load("tiny"), "Then, Mary and", edits=edit, max_new_tokens=2)
        >>> both.table().columns.tolist()
        ['position', 'before', 'p_before', 'after', 'p_after', 'same']
    """
    from workbench.plotting.generations import Generation, Generations

    require_language(model, "wb.generations continues a text")
    continuation = _Continuation.of(model, prompt, edits, max_new_tokens, mean_over, chat)
    count = ProgressCounter(2 * continuation.most, "generate", progress)
    sides = []
    for side in ((), continuation.edits):
        tokens = []
        for step in continuation.tokens(side):
            tokens.append(step)
            count(1)
        count(continuation.most - len(tokens))  # of a text that ended early
        ids = torch.tensor([token for token, _ in tokens], dtype=torch.long)
        text = "" if model.tokenizer is None else str(model.tokenizer.decode(ids))
        labels = model.labels(ids) if tokens else ()
        sides.append(Generation(tuple(ids.tolist()), labels, tuple(p for _, p in tokens), text))
    name = full_name(model.provenance.get("name", ""), model.operators)
    prompt_ids = tuple(continuation.ids.tolist())
    return Generations(prompt_ids, model.labels(continuation.ids), *sides, edits=continuation.requested, model=name)


@dataclass(frozen=True)
class _Continuation:
    """A prompt that is continued.

    Attributes:
        ids: of the prompt.
        requested, edits: as they were given, and with means as functions that write them.
        most: tokens at most.
    """

    model: Any
    ids: Int[Tensor, "pos"]
    requested: tuple[Edit, ...]
    edits: tuple[Edit, ...]
    most: int

    @classmethod
    def of(cls, model: Any, prompt: Any, edits: Any, max_new_tokens: Any, mean_over: Any, chat: Any) -> _Continuation:
        """All arguments checked."""
        requested, chat = edit_list("edits", edits), arguments.flag("chat", chat)
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
        ids = chat_ids(model, prompt) if chat else _ids(model, prompt)
        if not len(ids):
            raise arguments.refusal("prompt", prompt, "a prompt that has tokens")
        expected = "a text or its token ids, [pos]"
        ids = check_ids("prompt", ids, model.cfg.d_vocab, model.cfg.n_ctx, expected, ndim=1).cpu()
        if (room := model.cfg.n_ctx - len(ids)) < max_new_tokens and model.cfg.n_ctx:
            why = f"the prompt has {len(ids)} tokens and the context length of the model is {model.cfg.n_ctx}"
            raise arguments.refusal("max_new_tokens", max_new_tokens, f"at most {max(0, room)}", because=why)
        fixed = tuple(_with_fixed_mean(model, edit, mean_over) for edit in requested)
        return cls(model, ids, tuple(requested), fixed, int(max_new_tokens))

    def tokens(self, edits: Sequence[Edit]) -> Iterator[tuple[int, float]]:
        """The likeliest next token and its probability under the edits, again and again."""
        resumable, ids, start = resolve_model(self.model), self.ids, len(self.ids)
        end_tokens = _end_tokens(self.model)
        for _ in range(self.most):
            step_edits = [e for edit in edits for e in _at_length(edit, start, len(ids))]
            resolved = Edits.of(Recorder(resumable), _inputs(ids, start), step_edits, None, 0, self.model)
            taps, expand = full_forward_taps(resumable, [resolved.edited_run(0)])
            logits = resumable.full_forward(ids[None], taps, expand=expand)[0]
            token = int(logits.argmax())
            yield token, float(at_least_float32(logits).softmax(-1)[token])
            ids = torch.cat([ids, torch.tensor([token])])
            if token in end_tokens:
                return


def _ids(model: Any, prompt: str | Tensor) -> Tensor:
    if not isinstance(prompt, str):
        return prompt
    if model.tokenizer is None:
        raise arguments.refusal("prompt", prompt, "token ids, [pos]", because="the model has no tokenizer")
    return torch.tensor(model.tokenizer(prompt)["input_ids"], dtype=torch.long)


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
