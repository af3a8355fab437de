"""TransformerLens's `ActivationCache`, whose decompositions are refused where they would not add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache

from workbench.errors import UsageError
from workbench.models.norms import centres, norm_scale

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


class Activations(ActivationCache):
    """What a run gave, by hook point. Head results are ``z W_O``, through the norm behind attention with its scale in
    the run; the sum of a decomposition is what the load-time check found it to be.

    Args:
        cache: hook name → activation.
        model: the hooked model of the run.
    """

    def __init__(self, cache: dict[str, Tensor], model: Any) -> None:
        super().__init__(cache, model)
        self.hooked_model: HookedModel = model

    def decompose_resid(self, *args: Any, mode: Any = "all", incl_embeds: bool = True, **kwargs: Any) -> Any:
        """As in TransformerLens.

        Raises:
            UsageError: the parts do not add up to the residual stream of this model.
        """
        model = self.hooked_model
        for branch, other in (("attn_out", "mlp"), ("mlp_out", "attn")):
            if mode != other and f"blocks.0.hook_{branch}" not in model.hook_dict:
                raise UsageError(
                    f"decompose_resid: {type(model.hf).__name__} has no hook_{branch} that adds up to its residual "
                    "stream. wb.scores attributes logits to heads."
                )
        if incl_embeds and not model.additivity.embeds:
            raise UsageError(
                f"decompose_resid: what enters layer 0 of {type(model.hf).__name__} is not its embedding. Give "
                "incl_embeds=False; blocks.0.hook_resid_pre is what enters."
            )
        return super().decompose_resid(*args, mode=mode, incl_embeds=incl_embeds, **kwargs)

    def logit_lens(self, **kwargs: Any) -> Any:
        """As in TransformerLens.

        Raises:
            UsageError: the logits are more than the final norm, the unembedding, a factor and a cap.
        """
        if not self.hooked_model.additivity.reads_out:
            raise UsageError(
                f"logit_lens: the logits of {type(self.hooked_model.hf).__name__} are not shown to be its final norm "
                "and unembedding. wb.scores has a logit lens through the model's own modules."
            )
        return super().logit_lens(**kwargs)

    def _ensure_head_results(self) -> bool:
        model, anatomy = self.hooked_model, self.hooked_model.anatomy
        if not model.additivity.by_weights:
            raise UsageError(
                f"Head results: z W_O is not what attention adds to the residual stream of {type(model.hf).__name__}. "
                "wb.scores attributes logits to heads."
            )
        before = self.cache_dict.keys() | set()
        cached = super()._ensure_head_results()
        if anatomy.attn_out == anatomy.attention:
            return cached
        for layer in range(model.n_layers):
            name = f"blocks.{layer}.attn.hook_result"
            if name not in before:
                self.cache_dict[name] = self._through_norm(layer, self.cache_dict[name])
        return cached

    def _through_norm(
        self, layer: int, results: Float[Tensor, "*batch_pos head d_model"]
    ) -> Float[Tensor, "*batch_pos head d_model"]:
        """Heads' results through the norm behind attention, which has the scale of their sum."""
        model = self.hooked_model
        norm = model.part(layer, model.anatomy.attn_out)
        scale = norm_scale(norm, results.sum(-2) + model.blocks[layer].attn.b_O)[..., None, :]
        centred = results - results.mean(-1, keepdim=True) if centres(norm, results) else results
        return (centred * model.norm_weight(norm) / scale).to(results.dtype)
