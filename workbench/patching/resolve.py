"""From a caller's model, task or layers to what the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from workbench import arguments
from workbench.cache import Store
from workbench.core import check_site
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.hooked import HookedModel
from workbench.models.interference import in_training
from workbench.models.resumable import ResumableModel


def resolve_model(model: Any) -> ResumableModel:
    """What the engine runs: a `HookedModel` as a `ResumableModel`, and a `ResumableModel` as it is."""
    if isinstance(model, HookedModel):
        if model.has_active_hooks():
            raise UsageError(
                "Hooks are active on this model (add_hook, or `with model.hooks(...)`), and recordings, sweeps and "
                "runs do not apply them. Give edits=[wb.Edit(...)], or remove the hooks with model.reset_hooks()."
            )
        if model.hf.training:
            raise UsageError("This model is in training mode, where runs may differ (dropout). Call model.eval().")
        if name := in_training(model.hf):
            raise UsageError(f"{name} is in training mode, where runs may differ (dropout). Call model.eval().")
        return model.resumable_form()
    if isinstance(model, ResumableModel):
        return model
    from workbench.models.diffusion.in_place import HookedDiffusers  # for a refusal alone

    if isinstance(model, HookedDiffusers):
        do = "Use wb.sweep_pipeline, or model.hooks([...]) and model.recording(...) around the pipeline."
        why = f"nothing resumes a run of {type(model.hf).__name__} in its pipeline"
        raise arguments.refusal("model", model, "a model with a sampler of the workbench's", do, because=why)
    do = "Use wb.load(name), wb.HookedLM(model, tokenizer) or wb.HookedViT(model)."
    raise arguments.refusal("model", model, "a model of the workbench", do)


def resolve_proven(model: Any, inputs: PairedInputs, store: Store | None, patterns: bool = False) -> ResumableModel:
    """What the engine runs, for a call that resumes runs of these inputs: that it is exact at their lengths is proven
    first, once.

    Args:
        patterns: whether patterns or scores are edited.
    """
    resumable = resolve_model(model)
    prove = getattr(resumable, "prove", None)
    if prove is not None:
        prove(inputs, store, patterns)
    return resumable


def require_language(model: Any, why: str) -> None:
    """Refuse a model that is no language model, because of `why`, and one with active hooks.

    Raises:
        UsageError: either.
    """
    resolve_model(model)
    if getattr(model, "modality", "") != "language":
        raise arguments.refusal("model", model, "a language model", "Use wb.load(name).", because=why)


def resolve_inputs(task: Any, model: Any, argument: str = "task") -> PairedInputs:
    """Inputs of a task, of pairs, or of whatever else the model takes; inputs as they are.

    Raises:
        UsageError: something else, named as the `argument` that holds it.
    """
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        return prepare(task, argument)
    if isinstance(task, PairedInputs):
        return task
    raise arguments.refusal(argument, task, "wb.PairedInputs", because="the model does not say how to make them")


#: Why inputs without a pair cannot be patched.
NO_OTHER_RUN = "single inputs have no other run"


def how_to_pair(model: Any) -> str:
    """What to do where a patch was asked for, and the inputs are no pairs."""
    kinds = {
        "vision": "images.corrupted(...) or images.paired_with(...)",
        "diffusion": "wb.latents(classes, other=...)",
    }
    return f"To patch, use {kinds.get(getattr(model, 'modality', ''), 'wb.pairs')}."


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
    versions = {name: version(name) for name in ("torch", "transformers", "transformer-lens")}
    info: dict[str, Any] = {"task": inputs.name, "n": len(inputs), "seed": inputs.seed, "dropped": inputs.dropped}
    if inputs.sources or inputs.info:
        examples = [{"clean": clean, "corrupt": corrupt} for clean, corrupt in inputs.sources]
        info["inputs"] = {**inputs.info, **({"examples": examples} if examples else {})}
    own = model.info(inputs) if isinstance(model, HookedModel) else {}
    return {**info, "versions": versions, **own}
