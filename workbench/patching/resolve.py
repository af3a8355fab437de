"""From a caller's model, task or layers to what the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.cache import Store
from workbench.core import check_site
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.language import HookedLM
from workbench.models.resumable import ResumableModel
from workbench.models.resumable_layers import ResumableLM


def resolve_model(model: Any) -> ResumableModel:
    """What the engine runs: a `HookedLM` as a `ResumableModel`, and a `ResumableModel` as it is."""
    if isinstance(model, HookedLM):
        if model.has_active_hooks():
            raise UsageError(
                "Hooks are active on this model (add_hook, or `with model.hooks(...)`), and recordings, sweeps and "
                "runs do not apply them. Give edits=[wb.Edit(...)], or remove the hooks with model.reset_hooks()."
            )
        return ResumableLM(model)
    if isinstance(model, ResumableModel):
        return model
    do = "Use wb.load(name) or wb.HookedLM(model, tokenizer)."
    raise arguments.refusal("model", model, "a model of the workbench", do)


def resolve_inputs(task: Any, model: Any, argument: str = "task") -> PairedInputs:
    """Tokenised inputs of a task, of pairs or of texts (whose two runs are then the same); inputs as they are.

    Raises:
        UsageError: something else, named as the `argument` that holds it.
    """
    if isinstance(task, PairedInputs):
        return task
    texts: list[Any] = [task] if isinstance(task, str) else list(task) if isinstance(task, list | tuple) else []
    if texts and all(isinstance(text, str) for text in texts):
        if getattr(model, "tokenizer", None) is None:
            raise arguments.refusal(argument, task, "tokenised wb.PairedInputs", because="the model has no tokenizer")
        if empty := [text for text in texts if not model.tokenizer(text)["input_ids"]]:
            raise arguments.refusal(argument, task, "texts that have tokens", because=f"{empty[0]!r} has none")
        ids = [torch.as_tensor(model.to_tokens(text)[0]).long().cpu() for text in texts]
        return unpaired(model, ids, texts)
    tokenise: Any = getattr(task, "inputs", None)
    if tokenise is None or isinstance(task, type):
        do = "Use wb.task(name), wb.pairs(...), wb.read_pairs(path) or texts."
        raise arguments.refusal(argument, task, "a task, pairs or texts", do)
    if getattr(model, "tokenizer", None) is None:
        raise arguments.refusal(argument, task, "tokenised wb.PairedInputs", because="the model has no tokenizer")
    return tokenise(model.tokenizer, max_length=model.cfg.n_ctx or None)


def unpaired(model: Any, ids: Sequence[Int[Tensor, "pos"]], texts: Sequence[str] = ()) -> PairedInputs:
    """Prompts that stand alone: no answers, and both runs of each are the same.

    Raises:
        UsageError: one is longer than the model's context.
    """
    longest = getattr(getattr(model, "cfg", None), "n_ctx", 0)
    if longest and (long := [len(row) for row in ids if len(row) > longest]):
        raise UsageError(f"A text has {long[0]} tokens, and this model's context length is {longest}. Shorten it.")
    nothing: tuple[tuple[int, ...], ...] = tuple(() for _ in ids)
    ends = tuple({"end": len(row) - 1} for row in ids)
    both = tuple((text, text) for text in texts)
    return PairedInputs("texts", tuple(ids), tuple(ids), nothing, nothing, nothing, ends, both)


def resolve_layers(layers: Any, n_layers: int) -> tuple[int, ...]:
    """One layer or several, as indices; all of them for None.

    Raises:
        UsageError: something that is no layer of the model.
    """
    return tuple(range(n_layers)) if layers is None else arguments.indices("layers", layers, n_layers, "layer")


def resolve_mean_over(mean_over: Any, model: Any) -> PairedInputs | str | None:
    """What ``mean`` edits average over: other inputs, ``"positions"``, or None for the inputs themselves.

    Raises:
        UsageError: another word.
    """
    if mean_over is None or (isinstance(mean_over, str) and mean_over == "positions"):
        return mean_over
    if isinstance(mean_over, str):
        raise arguments.refusal("mean_over", mean_over, "inputs whose activations are averaged, or 'positions'")
    return resolve_inputs(mean_over, model, "mean_over")


def site_hooks(resumable: ResumableModel, sites: Sequence[str], layers: Sequence[int]) -> dict[str, list[str]]:
    """The hook names of each site, one a layer.

    Raises:
        UnknownName: the model has no such site.
    """
    for site in sites:
        check_site("sites", site, "layers=[{}]")
    try:
        return {site: [resumable.hook_name(site, layer) for layer in layers] for site in sites}
    except UnknownName as error:
        raise UnknownName("site", error.name, error.choices, error.hint, argument="sites") from None


def model_identity(resumable: ResumableModel, store: Store | None) -> bytes | None:
    """What the keys of this model's activations and results begin with; None where nothing is cached: without a store,
    and for models without an ``identity()`` (see `workbench.models.identity`)."""
    identity = getattr(resumable, "identity", None)
    return identity() if store is not None and identity is not None else None


def result_info(model: Any, inputs: PairedInputs) -> dict[str, Any]:
    """What every result reports about its model and inputs (JSON-able)."""
    info: dict[str, Any] = {
        "task": inputs.name,
        "n": len(inputs),
        "seed": inputs.seed,
        "dropped": inputs.dropped,
        "bos": inputs.bos,
        "versions": {name: version(name) for name in ("torch", "transformers", "transformer-lens")},
    }
    if isinstance(model, HookedLM):
        info |= {
            "model": model.provenance.get("name"),
            "model_sha256": model.provenance.get("sha256"),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "attention": model.attention_implementation,
            "exact": "resumed" if model.resumable else "full forwards",
        }
    return info
