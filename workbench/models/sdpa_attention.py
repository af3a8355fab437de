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
from workbench.models.attention_hook import hooked_attention
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
        self.module = module

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
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
            _by_head(named.get("attn_mask")),
            scaling=named.get("scale"),
            dropout=named.get("dropout_p", 0.0),
            is_causal=named.get("is_causal", False),
            enable_gqa=named.get("enable_gqa", False),
        )
        return z.transpose(1, 2)


def _by_head(mask: Tensor | None) -> Tensor | None:
    """A mask as ``[batch, head, dest, src]``, each of the first two may be 1; PyTorch adds axes on the left."""
    while mask is not None and mask.ndim < 4:
        mask = mask[None]
    return mask


@contextmanager
def answered_once(module: nn.Module) -> Iterator[None]:
    """While it lasts, the attention calls of one module go through `hooked_attention`, unless they do already."""
    modes = _get_current_function_mode_stack()
    if any(isinstance(mode, _Answer) and mode.module is module for mode in modes):
        yield
    else:
        with _Answer(module):
            yield


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
