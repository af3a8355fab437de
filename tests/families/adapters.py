"""Adapters: low-rank ones of peft, and a branch of one's own beside each output projection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

RANK = 4


class Branched(nn.Module):
    """A projection with a low-rank branch beside it: ``base(x) + B A x``."""

    def __init__(self, base: nn.Module, d_in: int, d_out: int) -> None:
        super().__init__()
        self.base = base
        self.A, self.B = nn.Linear(d_in, RANK, bias=False), nn.Linear(RANK, d_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.B(self.A(x))


def with_lora(model: Any, *, wrapped: bool) -> Any:
    """LoRA on every q, v and output projection, its matrices random; as peft's own model or inside transformers'."""
    from peft import LoraConfig, get_peft_model, inject_adapter_in_model

    config = LoraConfig(r=RANK, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"])
    torch.manual_seed(5)
    adapted: Any = get_peft_model(model, config) if wrapped else inject_adapter_in_model(config, model)
    _randomise(part for name, part in adapted.named_parameters() if "lora_" in name)
    return adapted.eval().requires_grad_(False)


def with_branches(model: Any) -> Any:
    """A branch beside every output projection."""
    torch.manual_seed(5)
    for module in list(model.modules()):
        if isinstance(getattr(module, "o_proj", None), nn.Linear):
            o = module.o_proj
            module.o_proj = Branched(o, o.in_features, o.out_features).to(o.weight.dtype)
            _randomise([module.o_proj.A.weight, module.o_proj.B.weight])
    return model.eval().requires_grad_(False)


def _randomise(parameters: Any) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=0.3)


ADAPTERS: dict[str, Any] = {
    "": lambda model: model,
    "lora": lambda model: with_lora(model, wrapped=False),
    "peft": lambda model: with_lora(model, wrapped=True),
    "branch": with_branches,
}
