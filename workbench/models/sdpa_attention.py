"""Attention modules that call PyTorch's ``scaled_dot_product_attention`` themselves, as plain torch models do.

While such a module runs, that one call is answered by `workbench.models.attention_hook.hooked_attention`, so that it is
hooked and resumed by the same function as every other model. How the module projects, norms and rotates stays its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from workbench.arguments import as_typed
from workbench.errors import UnsupportedModel
from workbench.models.attention_edits import AttentionEdits
from workbench.models.attention_hook import hooked_attention, set_edits
from workbench.models.replaced_forwards import replaced_forwards

_POSITIONAL = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def implementation(
    module: nn.Module,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head src d_head"],
    value: Float[Tensor, "batch kv_head src d_value"],
    mask: Tensor | None,
    *,
    own_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> tuple[Float[Tensor, "batch dest head d_value"], None]:
    """PyTorch's function, called as Hugging Face calls attention functions, with the mask in the caller's own shape."""
    z = F.scaled_dot_product_attention(
        query, key, value, own_mask, dropout, is_causal, scale=scaling, enable_gqa=enable_gqa
    )
    return z.transpose(1, 2), None


class _Answer(TorchFunctionMode):
    """Answers the attention call of one module; every other function is PyTorch's own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.calls += 1
        named = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
        if named["query"].ndim != 4:
            raise UnsupportedModel(
                f"{type(self.module).__name__} calls attention on {as_typed(named['query'])}: expected [batch, head, "
                "position, d_head], with an axis of heads."
            )
        z, _ = hooked_attention(
            partial(implementation, own_mask=named.get("attn_mask")),
            self.module,
            named["query"],
            named["key"],
            named["value"],
            _by_head(named.get("attn_mask"), named["query"].shape[2], named["key"].shape[2]),
            scaling=named.get("scale"),
            dropout=named.get("dropout_p", 0.0),
            is_causal=named.get("is_causal", False),
            enable_gqa=named.get("enable_gqa", False),
        )
        return z.transpose(1, 2)


def _by_head(mask: Tensor | None, dest: int, src: int) -> Tensor | None:
    """A mask as ``[batch, head, dest, src]``, each of the first two may be 1; PyTorch adds axes on the left, and
    repeats axes of length 1."""
    while mask is not None and mask.ndim < 4:
        mask = mask[None]
    return None if mask is None else mask.expand(*mask.shape[:2], dest, src)


@contextmanager
def answered_once(module: nn.Module) -> Iterator[None]:
    """While it lasts, the attention calls of one module go through `hooked_attention`, unless they do already."""
    modes = _get_current_function_mode_stack()
    if any(isinstance(mode, _Answer) and mode.module is module for mode in modes):
        yield
    else:
        with _Answer(module):
            yield


def called_once(module: nn.Module, edits: AttentionEdits, forward: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A module's forward with edits, for a module whose processor is the user's own to choose.

    Raises:
        UnsupportedModel: when called, the module calls PyTorch's attention never, or several times.
    """

    def edited(*args: Any, **kwargs: Any) -> Any:
        set_edits(module, edits)
        try:
            with _Answer(module) as answer:
                output = forward(*args, **kwargs)
        finally:
            set_edits(module, None)
        if answer.calls != 1:
            processor = type(getattr(module, "processor", module)).__name__
            why = f"calls PyTorch's attention {answer.calls} times in a forward, so that its heads are not one set"
            if not answer.calls:
                why = (
                    "computes attention itself, or by another backend than PyTorch's, so that its heads are not reached"
                )
            raise UnsupportedModel(f"{name}: {processor} {why}. Use the model's default processor and backend.")
        return output

    return edited


@contextmanager
def answered(modules: Sequence[nn.Module]) -> Iterator[None]:
    """While it lasts, the attention calls of these modules go through `hooked_attention`."""
    with replaced_forwards({module: _answering(module, module.forward) for module in modules}):
        yield


def _answering(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def answering(*args: Any, **kwargs: Any) -> Any:
        with _Answer(module):
            return forward(*args, **kwargs)

    return answering
