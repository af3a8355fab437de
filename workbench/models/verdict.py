"""What the self-check found out of a model, apart from the model: for copies, and for the next load of the same files.

A kept verdict is named by everything that it depends on: the files' hashes, precision, device, versions (provenance),
the modules' code and settings, torch's settings and threads, the processor's instructions, and our own source. Where
one of them changes, or cannot be hashed, the model is proven again.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.cache.notes import read_note, write_note
from workbench.cache.own_code import own_code_hash
from workbench.models.additivity import Additivity
from workbench.models.direct_path import DirectPath
from workbench.models.resumption import Resumption
from workbench.models.self_check import check

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


@dataclass(frozen=True)
class Verdict:
    """What `workbench.models.self_check.check` sets on a model, JSON-able.

    Attributes:
        heads: the number of KV heads, and the width of heads.
        additivity: of `Additivity`, with whether there is a path in the place of the path.
        left_out: the hooks of a layer that the model does not have after all.
        gated: whether layers have the hook point ``attn.hook_z_gated``.
    """

    resumable: bool
    why_not_resumable: str
    causal: bool
    row_arguments: Mapping[str, list[int]]
    short_readout: bool
    reads_first: int
    embeds_one: bool
    logit_scale: float
    z_is_projected: bool
    heads: tuple[int, int]
    additivity: Mapping[str, Any]
    left_out: list[str]
    gated: bool

    @classmethod
    def of(cls, model: HookedModel) -> Verdict:
        """That on a model that was checked."""
        additivity = model.additivity
        fields = ("by_weights", "reads_out", "embeds", "why_not")
        names = {name.split(".", 2)[2] for name in model.hook_dict if name.startswith("blocks.")}
        return cls(
            resumable=model.resumable,
            why_not_resumable=model.why_not_resumable,
            causal=model.causal,
            row_arguments={str(layer): sorted(numbers) for layer, numbers in model.row_arguments.items()},
            short_readout=model.short_readout,
            reads_first=model.reads_first,
            embeds_one=model.embeds_one,
            logit_scale=model.logit_scale,
            z_is_projected=model.z_is_projected,
            heads=(model.n_kv_heads, model.d_head),
            additivity={name: getattr(additivity, name) for name in fields}
            | {"gated": sorted(additivity.gated), "path": additivity.path is not None},
            left_out=[hook for hook in _hooks(model) if hook not in names],
            gated="hook_z_gated" in model.attention_hooks,
        )

    def put_on(self, model: HookedModel) -> None:
        """Set it on a model with the same modules that was not checked."""
        model.resumable, model.why_not_resumable, model.causal = self.resumable, self.why_not_resumable, self.causal
        model.row_arguments = {int(layer): frozenset(numbers) for layer, numbers in self.row_arguments.items()}
        model.short_readout, model.logit_scale = self.short_readout, self.logit_scale
        model.reads_first, model.embeds_one = self.reads_first, self.embeds_one
        model.z_is_projected = self.z_is_projected
        model.set_heads(*self.heads)
        fields = {**self.additivity, "gated": frozenset(self.additivity["gated"])}
        model.additivity = Additivity(**{**fields, "path": None})
        if self.additivity["path"]:
            model.additivity = replace(model.additivity, path=DirectPath(model))
        if self.gated:
            model.hook_gated_z()
        names = {name.split(".", 2)[2] for name in model.hook_dict if name.startswith("blocks.")}
        if left_out := [hook for hook in self.left_out if hook in names]:
            model.drop_hooks(*left_out)


def adopt(model: HookedModel, checked: HookedModel) -> None:
    """Take over what the check of a model with the same modules found: for copies, which are not checked again."""
    Verdict.of(checked).put_on(model)
    model.proofs.of = checked.proofs


def check_once(model: HookedModel, store: Store | None) -> None:
    """Check a model that was just loaded from the files that its provenance names, or read from the cache what an
    earlier check of the same files found; its warnings are given again.

    Raises:
        UnsupportedModel: it failed. That is not kept.
    """
    key = None if store is None else _key(model)
    _read_or_check(model, store, key)
    if store is not None and key is not None and "adapter" not in model.provenance:
        model.identity.loaded(store, key)


def _read_or_check(model: HookedModel, store: Store | None, key: bytes | None) -> None:
    note = read_note(store, key)
    if note is not None:
        Verdict(**note["verdict"]).put_on(model)
        model.proofs.warned_of_rounding = note["warned of rounding"]
        for length, resumption in note["proofs"]:
            model.proofs.know(length, Resumption(**resumption))
        for text in note["warnings"]:
            warnings.warn(text, stacklevel=4)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(model)
    for one in caught:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if all(one.category is UserWarning for one in caught):
        note = {
            "verdict": asdict(Verdict.of(model)),
            "warned of rounding": model.proofs.warned_of_rounding,
            "proofs": [[length, vars(resumption)] for length, resumption in model.proofs.at_load],
            "warnings": [str(one.message) for one in caught],
        }
        write_note(store, key, note)


def _key(model: HookedModel) -> bytes | None:
    """What a verdict on a model that was loaded from files is named by; None where that cannot be said."""
    code, own = model.identity.of_strict_code(), own_code_hash("workbench")
    if code is None or not own or "weights_sha256" not in model.provenance:
        return None
    machine = [torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()]
    if model.device.type == "cuda":
        machine.append(torch.cuda.get_device_name(model.device))
    versions = [platform.python_version(), torch.__version__, version("transformers"), version("transformer-lens")]
    return digest("self-check", model.provenance, code, own, str(model.dtype), str(model.device), machine, versions)


def _hooks(model: HookedModel) -> list[str]:
    return [*model.block_hooks, *(f"attn.{hook}" for hook in model.attention_hooks)]
