"""`operator_view`: one head of one prompt under another attention operator, beside its own attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import arguments
from workbench.attention.jacobian import influence
from workbench.attention.operator import BoundOperator, Operator
from workbench.attention.operator import operator as bound_operator
from workbench.core import Head, full_name
from workbench.errors import UsageError
from workbench.models.attention_edits import AttentionEdits, AttentionInputs, PartialTap, expanded
from workbench.models.explicit_attention import is_causal
from workbench.models.hooked import HookedModel
from workbench.models.logit_effects import logit_effects
from workbench.models.operator_check import drops
from workbench.models.precision import at_least_float32
from workbench.models.resumable import Tap
from workbench.models.swap import swap
from workbench.models.swapped_attention import operator_of
from workbench.patching.attention_view import one_prompt, words_of
from workbench.patching.resolve import require_language

if TYPE_CHECKING:
    from workbench.plotting.operator_view import HeadOutput, OperatorView

#: What an operator may need that one prompt does not have.
NOT_IN_A_PROMPT = {"grid": "a grid of positions", "data": "data besides the prompt", "text": "a text of its own"}
WEIGHT, ENTRY, INFLUENCE = "attention weight", "entry of the operator's matrix", "influence ‖∂z / ∂v‖"
#: Longer prompts have no influence: it takes a backward pass for each entry of z.
LONGEST_INFLUENCE = 64


@torch.no_grad()
def operator_view(
    model: Any,
    prompt: Any,
    layer: int,
    head: int,
    operator: str | Operator | BoundOperator,
    *,
    bidirectional: bool = False,
    cache: Any = None,
) -> OperatorView:
    """One head of one prompt under another attention operator, beside its own attention; in a notebook the result is
    displayed as pictures and tables.

    The operator gets the head's own q, k and v: `wb.swap` puts it into this layer alone, and what enters the layer is
    then as before. With A its matrix the head's ``z = A v`` (`Operator` says what else there may be), it writes
    ``z W_O``, and the next token is that of the model with the whole layer swapped. Weights are shared, and what the
    swap's check finds is stored, so that another head or prompt is not checked again.

    Args:
        model: a `HookedLM`; one with swapped operators is compared as it is.
        prompt: a text, or its token ids.
        layer, head: which head; query heads are counted.
        operator: a name with settings (``"sliding-window(window=32)"``), or an `Operator`.
        bidirectional: as in `wb.swap`.
        cache: where the check's verdict is stored, as in `wb.record`.

    Returns:
        `OperatorView`: ``own`` and ``swapped`` with the matrices ``[dest, src]``, z ``[pos, d_head]``, ``z W_O``
        ``[pos, d_model]``, and logits ``[d_vocab]``; ``table()``, ``next_tokens()`` and ``promoted()``. Of an operator
        without a matrix of each head it is the influence ``‖∂z_i / ∂v_j‖`` (`workbench.attention.jacobian`), for
        prompts of up to 64 tokens.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: no such layer or head, a prompt that the model cannot read, or an operator that cannot be swapped
            for one prompt: it needs a grid, other data or two streams, or sees later positions.
        UnsupportedModel: the operator does not compute in this model what it says it does.

    Examples:
        >>> view = wb.operator_view(wb.load("tiny"), "Then, Mary and John", 1, 3, "sliding-window(window=2)")
        >>> view.table().columns.tolist()  # norms of what the head writes, and their cosine
        ['position', 'token', 'own', 'swapped', 'cosine']
    """
    from workbench.plotting.operator_view import OperatorView

    require_language(model, "wb.operator_view shows tokens")
    at = Head(
        arguments.index("layer", layer, model.n_layers, "layer"),
        arguments.index("head", head, model.n_heads, "head"),
    )
    bound = bound_operator(operator)
    _require_prompt_is_enough(bound)
    ids = one_prompt(model, prompt).clean[0]
    changed = swap(model, {at.layer: bound}, bidirectional=bidirectional, cache=cache)
    before, after = _HeadRun.of(model, ids, at), _HeadRun.of(changed, ids, at)
    notes = [f"{bound} drops the {what} of this layer." for what in drops(bound, after.inputs)]
    if bound.operator.invents:
        notes.append(f"A swap makes up {bound.operator.invents}.")
    if bound.operator.ignores:
        notes.append(f"{bound} does not read the head's {' and '.join(bound.operator.ignores)}.")
    if bound.has_pattern and not bound.declared("linear_in_v") and bound.operator.finish is not None:
        notes.append(f"z of {bound} is more than its matrix times v: a further step follows.")
    if not bound.has_pattern:
        notes.append(_no_matrix(bound, len(ids)))
    if model.additivity.why_not:
        notes.append(f"What the head adds to the logits: {model.additivity.why_not}")
    if not model.additivity.by_weights:
        notes.append("Norms and cosines are those of z: in this model heads do not write through W_O alone.")
    return OperatorView(
        words_of(model, ids),
        at,
        str(bound),
        before.output(model, ids, at),
        after.output(changed, ids, at),
        tuple(notes),
        full_name(model.provenance.get("name", ""), model.operators),
        model.tokenizer,
    )


def _no_matrix(bound: BoundOperator, length: int) -> str:
    if length <= LONGEST_INFLUENCE:
        return f"{bound} has no matrix of each head. Its influence is the norm of the Jacobian's blocks: no weights."
    return f"{bound} has no matrix of each head, and no influence beyond {LONGEST_INFLUENCE} tokens: see z."


def _require_prompt_is_enough(bound: BoundOperator) -> None:
    needs = set(bound.declared("needs"))
    if "second stream" in needs and bound.settings.get("form") == "sequence":
        needs.add("text")
    if bound.operator.module is not None:
        needs.discard("data")  # its own
    if not needs.isdisjoint(NOT_IN_A_PROMPT):
        what = " and ".join(text for name, text in NOT_IN_A_PROMPT.items() if name in needs)
        raise UsageError(
            f"operator={str(bound)!r}: expected an operator on one prompt's q, k and v, because this one needs {what}. "
            "Choose another (workbench operators lists them)."
        )


@dataclass
class _HeadRun:
    """What one head does in one run of a prompt."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    attention: list[AttentionInputs] = field(default_factory=list)

    @property
    def inputs(self) -> AttentionInputs:
        return self.attention[0]

    @classmethod
    def of(cls, model: HookedModel, ids: Int[Tensor, "pos"], head: Head) -> _HeadRun:
        """One forward pass."""
        run, values = cls(), {}

        def reads(name: str) -> Tap:
            def tap(x: Tensor) -> None:
                values[name] = x.detach()[0].clone()

            return tap

        taps: dict[str, Tap] = {
            model.hook_name("z", head.layer): reads("z"),
            model.hook_name("resid_post", model.n_layers - 1): reads("residual"),
        }
        pattern = f"blocks.{head.layer}.attn.hook_pattern"
        bound = model.operators.get(head.layer)
        by_influence = pattern not in model.hook_dict and bound is not None and len(ids) <= LONGEST_INFLUENCE
        if pattern in model.hook_dict:
            taps[pattern] = PartialTap(reads("matrix"), heads=(head.index,))
        elif by_influence:
            taps[model.hook_name("q", head.layer)] = reads("q")
        edits = {head.layer: AttentionEdits(on_inputs=run.attention.append)}
        with model.lock, model.state_put_back(), model.running(taps, edits):
            logits = model.outputs(ids[None].to(model.device))[0]
        run.tensors = {
            "z": values["z"][:, head.index],
            "residual": values["residual"][-1],
            "logits": at_least_float32(logits).cpu(),
        }
        if pattern in model.hook_dict:
            run.tensors["matrix"] = values["matrix"][0]
        elif by_influence:
            run.tensors["matrix"] = run._influence(model, values["q"], head)
        return run

    def _influence(
        self, model: HookedModel, q: Float[Tensor, "pos head d_head"], head: Head
    ) -> Float[Tensor, "dest src"]:
        """How much each source's value moves each destination's z."""
        attention, inputs = model.attentions[head.layer], self.inputs
        swapped, scale = operator_of(attention), inputs.arguments.get("scaling")
        assert swapped is not None
        bound, n_heads = swapped.operator, q.shape[1]
        call = swapped.call(
            scale=q.shape[-1] ** -0.5 if scale is None else scale,
            causal=is_causal(attention, inputs.arguments) and bound.keeps_causality,
            gates=inputs.gates,
        )
        key, value = expanded(inputs.keys, n_heads), expanded(inputs.values, n_heads)
        return influence(bound, q.transpose(0, 1)[None], key, value, call)[0, head.index]

    def output(self, model: HookedModel, ids: Int[Tensor, "pos"], head: Head) -> HeadOutput:
        """That, as arrays."""
        from workbench.plotting.operator_view import HeadOutput

        z, matrix, bound = self.tensors["z"], self.tensors.get("matrix"), model.operators.get(head.layer)
        written = effects = None
        if model.additivity.by_weights:
            written = _array(at_least_float32(z) @ at_least_float32(model.blocks[head.layer].attn.W_O[head.index]))
        if not model.additivity.why_not:
            effects = _array(logit_effects(model, ids, head, z[-1], self.tensors["residual"]))
        scale = WEIGHT if bound is None or bound.declared("row_stochastic") else ENTRY
        if bound is not None and not bound.has_pattern:
            scale = INFLUENCE
        matrix = None if matrix is None else _array(matrix)
        return HeadOutput(matrix, scale, _array(z), written, effects, _array(self.tensors["logits"]))


def _array(x: Tensor) -> Float[Any, "*shape"]:
    return at_least_float32(x).detach().cpu().numpy()
