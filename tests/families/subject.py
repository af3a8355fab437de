"""A tiny model under test, and the same model under the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tests.families import paired
from tests.families.cell import Cell, Stated, Wrong, workbench_call
from tests.families.configurations import Configuration
from tests.families.tiny import one_line, tiny_model
from tests.oracle.plain_decoder import Edits, NoOracle, PlainDecoder
from workbench.inputs.paired import PairedInputs
from workbench.models.language import HookedLM

#: Pairs of prompts of each family: two of each length.
PAIRS = 4
#: The hook point by which a model says that its z is before a gate or a norm: what enters the projection behind it.
GATED_Z = "attn.hook_z_gated"


class Subject:
    """A configuration, its model hooked by the workbench, a second copy under plain hooks, and prompts.

    Attributes:
        warnings: what the workbench said while it wrapped the model, a line each.
    """

    def __init__(
        self,
        configuration: Configuration,
        dtype: torch.dtype = torch.float32,
        adapt: Callable[[Any], Any] = lambda model: model,
    ) -> None:
        self.configuration, self.dtype, self.adapt = configuration, dtype, adapt
        self.warnings: list[str] = []
        self.hf = adapt(tiny_model(configuration, dtype))  # of the oracle's own

    @cached_property
    def model(self) -> HookedLM:
        """The hooked model.

        Raises:
            Stated, Wrong: it is refused, in words or by an error that is not ours.
        """
        hf = self.adapt(tiny_model(self.configuration, self.dtype))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with workbench_call():
                model = HookedLM(hf)
        self.warnings = list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)))
        return model

    @cached_property
    def plain(self) -> PlainDecoder:
        return PlainDecoder(self.hf)

    @cached_property
    def inputs(self) -> PairedInputs:
        """Random pairs; the answer and a wrong answer stand in the prompt, so that read-outs have places."""
        inputs = paired(PAIRS, lengths=self.configuration.lengths)
        answers = tuple((int(ids[0]),) for ids in inputs.clean)
        wrong = tuple((int(ids[1]), 120 + i) for i, ids in enumerate(inputs.clean))
        options = tuple((*a, *w) for a, w in zip(answers, wrong, strict=True))
        return replace(inputs, answer=answers, wrong=wrong, options=options)

    @property
    def is_gated(self) -> bool:
        """Whether the model says that its z is not what enters the output projection."""
        return f"blocks.{self.plain.layers[0]}.{GATED_Z}" in self.model.hook_dict

    def plain_site(self, site: str) -> str:
        """The oracle's name of a site: z is the projection's input, unless the model says that it is before a gate or a
        norm."""
        before = self.is_gated or "z" in self.model.info(self.inputs)
        return "attention" if site == "z" and before else site

    def metric(self, logits: Tensor, example: int) -> float:
        """Mean logit of the answers less that of the wrong answers."""
        answer, wrong = list(self.inputs.answer[example]), list(self.inputs.wrong[example])
        return float(logits[answer].double().mean() - logits[wrong].double().mean())

    def plain_score(self, ids: Tensor, example: int, edits: Edits | None = None) -> float:
        """The metric of one prompt under edits, from a full forward of the plain model."""
        return self.metric(self.plain.logits(ids, edits), example)


def rows_of(result: Any, layers: Iterable[int]) -> list[int]:
    """Which rows of a result are those layers."""
    labels = [int(label) for label in result.labels["layer"]]
    return [labels.index(layer) for layer in layers]


def some_of(inputs: PairedInputs, examples: list[int]) -> PairedInputs:
    """Some of the pairs."""
    fields = ("clean", "corrupt", "answer", "wrong", "options", "positions")
    return replace(inputs, **{name: tuple(getattr(inputs, name)[i] for i in examples) for name in fields})


def measured(column: Callable[[Subject], Cell], subject: Subject) -> Cell:
    """A column's cell, whatever happens."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the workbench, about how it computes
            return column(subject)
    except Stated as error:
        return Cell("stated", str(error))
    except Wrong as error:
        return Cell("wrong", str(error))
    except NoOracle as error:
        return Cell("unchecked", str(error))
    except Exception as error:
        return Cell("unchecked", f"the oracle fails: {type(error).__name__}: {one_line(error)}")
