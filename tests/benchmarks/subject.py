"""What is benchmarked: one model in as many separate copies as there are contestants, and the fixed prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.inputs.paired import PairedInputs
from workbench.inputs.pairs import Pairs, read_pairs
from workbench.models.language import HookedLM

PROMPTS = Path(__file__).parent / "prompts"
MODEL = "smollm2-135m-instruct-q4"


@dataclass(frozen=True)
class Settings:
    """The size of a measurement: rounds, and how many of a rival's cells are timed in each."""

    model: str = MODEL
    rounds: int = 5
    cells: int = 30
    prompts: int | None = None
    quick: bool = False


class Subject:
    """The workbench's model, and fresh unwrapped copies for the rivals, so that no wrapper disturbs another.

    Args:
        load: gives the wrapped model.
        copy: gives the same weights as a new Hugging Face model each time.
    """

    def __init__(self, load: Callable[[], HookedLM], copy: Callable[[], Any]) -> None:
        self._load, self._copy = load, copy

    @classmethod
    def named(cls, name: str) -> Subject:
        """A model of the catalogue, a hub id or a directory."""
        import workbench
        from workbench.models.sources import resolve

        return cls(lambda: workbench.load(name), lambda: resolve(name).hf_model)

    @cached_property
    def model(self) -> HookedLM:
        return self._load()

    @cached_property
    def plain(self) -> Any:
        """A copy that nobody wraps: hooks go on and off."""
        return self._copy().eval()

    @cached_property
    def bridge(self) -> Any:
        """A copy inside TransformerLens."""
        from transformer_lens.model_bridge import TransformerBridge

        name = str(self.model.provenance.get("name", "model"))
        return TransformerBridge.boot_transformers(name, hf_model=self._copy().eval(), tokenizer=self.model.tokenizer)

    @cached_property
    def traced(self) -> Any:
        """A copy inside nnsight."""
        from nnsight import NNsight

        return NNsight(self._copy().eval())


@dataclass(frozen=True)
class Prompts:
    """Pairs of one length as the rivals take them, and as the workbench does (`pairs`)."""

    pairs: Pairs
    clean: Int[Tensor, "prompt pos"]
    corrupt: Int[Tensor, "prompt pos"]
    answer: Int[Tensor, "prompt"]
    wrong: Int[Tensor, "prompt"]
    first_difference: int

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def length(self) -> int:
        return self.clean.shape[1]

    def difference(self, logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
        """Logit of the answer minus logit of the wrong answer, at the last position."""
        rows = torch.arange(len(self))
        return logits[rows, -1, self.answer] - logits[rows, -1, self.wrong]


def pairs_of(name: str, n: int | None = None) -> Pairs:
    """The pairs of ``prompts/<name>.jsonl``; the first n, repeated where n is more than the file has."""
    pairs = read_pairs(PROMPTS / f"{name}.jsonl")
    if n is None:
        return pairs
    indices = [i % len(pairs) for i in range(n)]
    return replace(pairs, items=tuple(pairs.items[i] for i in indices), where=tuple(pairs.where[i] for i in indices))


def prompts_of(name: str, tokenizer: Any, n: int | None = None) -> Prompts:
    """The pairs of a file, tokenised.

    Raises:
        BadInput: with this tokeniser they differ in length or in where clean and corrupt first differ.
    """
    pairs = pairs_of(name, n)
    inputs: PairedInputs = pairs.inputs(tokenizer)
    if len(inputs.groups()) != 1:
        raise BadInput(f"{name}.jsonl: with this tokeniser the pairs fall into {len(inputs.groups())} groups, not one.")
    return Prompts(
        pairs=pairs,
        clean=torch.stack(inputs.clean),
        corrupt=torch.stack(inputs.corrupt),
        answer=torch.tensor([ids[0] for ids in inputs.answer]),
        wrong=torch.tensor([ids[0] for ids in inputs.wrong]),
        first_difference=inputs.first_difference[0],
    )
