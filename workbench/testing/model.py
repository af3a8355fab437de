"""`check_model`: what a hooked model promises, checked with random inputs and plain PyTorch hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.testing.problems import raise_problems, run_in_order

#: What sums in another order may move logits by, as a share of the largest one.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
#: Fused attention never forms these, so that reading them computes the layer in another way.
EXPLICIT = ("hook_attn_scores", "hook_pattern")


def check_model(model: Any) -> None:
    """Check a `HookedModel` of any modality, or a causal language model that can be wrapped in a `HookedLM`.

    Without hooks the outputs are those of the unwrapped model, bit for bit; every hook point fires, in its shape, and
    reading changes nothing; patching a head gives the outputs that plain PyTorch hooks give; a sweep, which resumes
    from the edited layer, gives those of full forwards; nothing is left behind by an error.

    Raises:
        AssertionError: everything that does not hold, each with where to look.

    Examples:
        >>> wb.testing.check_model(wb.load("tiny"))
    """
    from workbench.models.hooked import HookedModel
    from workbench.models.language import HookedLM

    if not isinstance(model, HookedModel):
        try:
            model = HookedLM(model)
        except WorkbenchError as error:
            raise AssertionError(f"The model cannot be wrapped: {error}") from error
    checked = _Checked.of(model)
    checks = (checked.is_untouched, checked.every_hook_fires, checked.edits_are_right, checked.leaves_nothing_behind)
    with torch.no_grad():
        raise_problems(f"The model {type(model.hf).__name__}", run_in_order(checks))


@dataclass(frozen=True)
class _Checked:
    """A model with the inputs that it is checked on, and what it makes of them unwrapped."""

    model: Any
    clean: Shaped[Tensor, "input pos *rest"]
    corrupt: Shaped[Tensor, "input pos *rest"]
    expected: Float[Tensor, "input *n"]

    @classmethod
    def of(cls, model: Any) -> _Checked:
        """The model's own trial inputs; the second half of a corrupt one is that of the clean one, reversed."""
        with torch.no_grad():
            clean = model.trial()
            corrupt, middle = clean.clone(), clean.shape[1] // 2
            corrupt[:, middle:] = clean[:, middle:].flip(1)
            return cls(model, clean, corrupt, model.trial_outputs(clean))

    def is_untouched(self) -> Iterator[str]:
        if not torch.equal(self.model(self.clean), self.expected):
            yield "without hooks, its outputs are not bit-identical to those of the unwrapped model."
        if hooked := _hooked_modules(self.model.hf):
            yield f"wrapping leaves forward hooks on its modules: {', '.join(hooked[:3])}."

    def every_hook_fires(self) -> Iterator[str]:
        outputs, cache = self.model.run_with_cache(self.clean)
        if not self._close(outputs, self.expected):
            yield "its outputs change when every hook point is read."
        for name in self.model.hook_dict:
            if name not in cache:
                yield f"the hook point {name} never fires. {self.model.where_parts_are_named}"
            elif tuple(cache[name].shape) != (shape := self._shape(name)):
                yield f"the hook point {name} has the shape {tuple(cache[name].shape)}, expected {shape}."
        names = [name for name in self.model.hook_dict if not name.endswith(EXPLICIT)]
        if self._moves_when_read(names):
            names = [name for name in names if self._moves_when_read([name])]
            yield f"its outputs change when {', '.join(names[:3]) or 'several hook points'} are read."

    def edits_are_right(self) -> Iterator[str]:
        """One head of each layer, patched from the corrupt run, against plain PyTorch hooks on full forwards."""
        import workbench as wb

        model, inputs = self.model, self._pairs()
        sweep = wb.sweep(model, inputs, direction="noise", metric=_first_two, cache=False)
        unedited = model.outputs(self.clean)
        how = "resumed from the edited layer" if model.resumable else "by full forward passes"
        for layer in range(model.n_layers):
            head = layer % model.n_heads
            plain = self._patched_by_plain_hooks(layer, head)
            edits = [wb.Edit("z", layer, head)]
            whole = wb.run(model, inputs, edits, cache=False, unedited=False).logits.to(plain)
            if torch.equal(plain, unedited):
                yield f"patching head {layer}.{head} by plain PyTorch hooks changes nothing."
            if not self._close(whole, plain):
                yield f"patching head {layer}.{head} does not give the same outputs as plain PyTorch hooks."
            swept = torch.tensor(sweep.values[layer, head]) - (plain[:, 0] - plain[:, 1]).double().cpu()
            if swept.abs().max() > 2 * self._limit(plain):
                yield f"a sweep, {how}, does not give the same as a full forward pass with head {layer}.{head} patched."

    def leaves_nothing_behind(self) -> Iterator[str]:
        def fails(x: Tensor, hook: object) -> Tensor:
            raise ZeroDivisionError

        def cuts(x: Tensor, hook: object) -> Tensor:
            return x[:, :1]

        attempts: dict[str, Callable[..., Any]] = {"raises an error": fails, "changes a shape": cuts}
        name = self.model.hook_name("z", self.model.n_layers - 1)
        for what, hook in attempts.items():
            try:
                self.model.run_with_hooks(self.clean, fwd_hooks=[(name, hook)])
                yield f"a hook that {what} does not raise an error."
            except (ZeroDivisionError, WorkbenchError):
                pass
            if _hooked_modules(self.model.hf) or not torch.equal(self.model(self.clean), self.expected):
                yield f"a hook that {what} is left on the model afterwards."

    def _pairs(self) -> Any:
        import workbench as wb

        return wb.PairedInputs("random inputs", tuple(self.clean), tuple(self.corrupt))

    def _patched_by_plain_hooks(self, layer: int, head: int) -> Float[Tensor, "input n_outputs"]:
        """The outputs of the clean run, with one head's z taken from the corrupt run."""
        model = self.model
        module = model.attentions[layer].get_submodule(model.anatomy.output)
        part = slice(head * model.d_head, (head + 1) * model.d_head)
        source: list[Tensor] = []
        with _before(module, lambda z: source.append(z[..., part].clone())):
            model.outputs(self.corrupt)

        def patch(z: Tensor) -> Tensor:
            z = z.clone()
            z[..., part] = source[0]
            return z

        with _before(module, patch):
            return model.outputs(self.clean)

    def _moves_when_read(self, names: Sequence[str]) -> bool:
        hooks = [(name, lambda x, hook: None) for name in names]
        return not torch.equal(self.model.run_with_hooks(self.clean, fwd_hooks=hooks), self.expected)

    def _shape(self, name: str) -> tuple[int, ...]:
        model, part, (size, length) = self.model, name.rsplit(".", 1)[-1], self.clean.shape[:2]
        if part.endswith("scale"):
            return size, length, 1
        if part in EXPLICIT:
            return size, model.n_heads, length, length
        if part in ("hook_v", "hook_k", "hook_k_normed", "hook_rot_k"):
            return size, length, model.n_kv_heads, model.d_head
        if part in ("hook_q", "hook_q_normed", "hook_rot_q", "hook_z"):
            return size, length, model.n_heads, model.d_head
        return size, length, model.d_model

    def _close(self, a: Tensor, b: Tensor) -> bool:
        return bool((a - b).abs().max() <= self._limit(b))

    def _limit(self, outputs: Tensor) -> float:
        return TOLERANCE.get(self.expected.dtype, 1e-4) * max(1e-3, float(outputs.abs().max()))


def _first_two(outputs: Float[Tensor, "row n"], example: Any) -> Float[Tensor, "row"]:
    """The difference of outputs 0 and 1, whatever they are."""
    return outputs[:, 0] - outputs[:, 1]


def _before(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> ExitStack:
    """While it lasts, `change` sees the module's input, and replaces it where it returns one."""

    def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = change(args[0])
        return None if new is None else (new, *args[1:])

    stack = ExitStack()
    stack.callback(module.register_forward_pre_hook(hook).remove)
    return stack


def _hooked_modules(model: nn.Module) -> Sequence[str]:
    return [name for name, part in model.named_modules() if part._forward_hooks or part._forward_pre_hooks]
