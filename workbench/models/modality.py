"""`Modality`: what the engine needs to know of a model beyond its layers: its inputs, its parts, and what metrics read.

The three that have no default say where the model has its parts, what its outputs are, and what random inputs look
like. Nothing here depends on hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from transformer_lens.config import TransformerLensConfig

from workbench import arguments
from workbench.arguments import as_typed, instance
from workbench.attention.operator import BoundOperator
from workbench.errors import UnsupportedModel
from workbench.inputs.paired import PairedInputs
from workbench.models.anatomy import Anatomy
from workbench.models.layers_left_out import layers_left_out
from workbench.models.resumable import ResumableModel, StopForward
from workbench.models.resumable_layers import LayersRun, ResumableLayers
from workbench.models.transformer_lens_api import transformer_lens_config

#: Modality → what users give its models as inputs, for messages; `PairedInputs` alone where it is not named.
INPUTS = {"vision": "images (wb.images([...])), pairs of them, or wb.PairedInputs"}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model's layers: `n_kv_heads` key/value heads serve `n_heads` query heads of width `d_head`.

    Raises:
        UsageError: one is not a whole number from 1 to 2³¹.

    Examples:
        >>> wb.Sizes(n_layers=6, n_heads=4, n_kv_heads=4, d_head=16, d_model=64).d_head
        16
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int

    def __post_init__(self) -> None:
        for name, size in vars(self).copy().items():
            object.__setattr__(self, name, arguments.whole_number(name, size, at_least=1, at_most=2**31))


class Modality:
    """Mixed into `workbench.models.hooked.HookedModel`, which is what `self` is. A modality is a subclass of that with
    `parts` (or `parts_of`), `outputs` and `trial`, and `sizes` where the model has no Hugging Face configuration; the
    rest has defaults."""

    #: What the inputs are; head scores, catalogue entries and pages say which modalities they apply to.
    modality: ClassVar[str] = "other"
    #: Where the model has its parts.
    parts: ClassVar[Anatomy] = Anatomy()
    #: What `outputs` are; a metric says which it reads.
    outputs_are: str = "logits"
    #: Whether metrics read the last position alone, so that the last layer need not compute the others.
    reads_last_position: ClassVar[bool] = False

    #: For a refusal: where to name the parts of a model that were not found.
    where_parts_are_named: ClassVar[str] = "Its parts may name the wrong modules."

    #: By the model's dtype, the shape and dtype of what a position of an input holds.
    _content: dict[torch.dtype, tuple[torch.Size, torch.dtype]]
    hf: Any
    lock: threading.RLock
    n_layers: int
    operators: dict[int, BoundOperator]
    provenance: dict[str, Any]
    resumable: bool
    device: torch.device
    dtype: torch.dtype

    @property
    def config(self) -> Any:
        """The configuration of the hooked layers, None where the model has none."""
        return getattr(self.hf, "config", None)

    def sizes(self) -> Sizes:
        """The sizes of the layers, from the configuration."""
        config = self.config
        if config is None:
            raise UnsupportedModel(
                f"{type(self.hf).__name__} has no configuration. Give the sizes of its layers in {type(self).__name__}."
                "sizes."
            )
        heads, width = int(config.num_attention_heads), int(config.hidden_size)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        d_head = int(getattr(config, "head_dim", None) or width // heads)
        return Sizes(int(config.num_hidden_layers), heads, kv_heads, d_head, width)

    def parts_of(self, hf: Any) -> tuple[Anatomy, bool]:
        """Where the model has its parts, and whether that is known rather than guessed: what is wrong with a known
        place is an error, and a guessed one is left out with a warning."""
        return instance(f"{type(self).__name__}.parts", self.parts, Anatomy, "wb.Anatomy"), True

    def outputs(self, inputs: Shaped[Tensor, "batch pos *rest"]) -> Float[Tensor, "batch n_outputs"]:
        """What metrics read of complete forwards: logits of classes, or of the token after the last position."""
        raise UnsupportedModel(f"{type(self).__name__} has no outputs. Write outputs(self, inputs): what metrics read.")

    def trial(self) -> Shaped[Tensor, "batch pos *rest"]:
        """Two random inputs for the self-check, of a length in use."""
        raise UnsupportedModel(f"{type(self).__name__} has no trial. Write trial(self): two random inputs.")

    def rounding_trial(self) -> Shaped[Tensor, "batch pos *rest"]:
        """Inputs on which half precision's rounding is looked at, the more positions the better."""
        return self.trial()

    def shortest_trial(self) -> Shaped[Tensor, "one pos *rest"]:
        """One input, as short as the model takes it, by which layers are called alone."""
        return self.trial()[:1, :1]

    def trial_outputs(self, inputs: Shaped[Tensor, "batch pos *rest"]) -> Float[Tensor, "batch *n"]:
        """What the self-check compares, with and without hooks."""
        return self.outputs(inputs)

    def one_pass(self) -> AbstractContextManager[None]:
        """While it lasts, a run passes through the layers once, for checks of the layers. Models that run them in
        several steps have their own."""
        return nullcontext()

    @torch.no_grad()
    def count_outputs(self) -> int:
        """How many numbers `outputs` gives for an input.

        Raises:
            UnsupportedModel: `outputs` or `trial` gives something else than a tensor of that shape.
        """
        name, trial = type(self).__name__, self.trial()
        if not isinstance(trial, Tensor) or trial.ndim < 2:
            raise UnsupportedModel(f"{name}.trial gave {as_typed(trial)}: expected a tensor [input, position, ...].")
        try:
            outputs = self.outputs(trial)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            trial_inputs = f"what {name}.trial gives, {as_typed(trial)} of {trial.dtype}"
            raise UnsupportedModel(f"{name}.outputs failed on {trial_inputs}: {error}.") from error
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(trial):
            raise UnsupportedModel(
                f"{name}.outputs gave {as_typed(outputs)} for {len(trial)} inputs: expected a tensor [input, output]."
            )
        if not outputs.is_floating_point():
            raise UnsupportedModel(
                f"{name}.outputs gave {outputs.dtype}: expected numbers such as logits, not choices."
            )
        return outputs.shape[1]

    def check_content(self, name: str, inputs: Shaped[Tensor, "pos *rest"]) -> None:
        """Refuse an input whose positions do not hold what those of `trial` hold.

        Raises:
            UsageError: another width, or another dtype.
        """
        if self.dtype not in self._content:
            trial = self.trial()
            self._content[self.dtype] = trial.shape[2:], trial.dtype
        shape, dtype = self._content[self.dtype]
        dtypes = {dtype, self.dtype} if dtype.is_floating_point else {dtype}
        if inputs.shape[1:] != shape or inputs.dtype not in dtypes:
            expected = f"[position{''.join(f', {size}' for size in shape)}] of {dtype}"
            do = f"Give inputs as {type(self).__name__}.trial does."
            because = "" if inputs.dtype in dtypes else f"this is of {inputs.dtype}"
            raise arguments.refusal(name, inputs, expected, do, because=because)

    def run_layers(self: Any, inputs: Shaped[Tensor, "batch pos *rest"]) -> None:
        """A forward as far as the end of the last layer."""

        def stop(*_: Any) -> None:
            raise StopForward

        handle = self.layer(self.n_layers - 1).register_forward_hook(stop)  # after the hooks that read that layer
        try:
            with suppress(StopForward):
                self.outputs(inputs)
        finally:
            handle.remove()

    def read_out(
        self: Any,
        inputs: Shaped[Tensor, "row_or_1 pos *rest"],
        stream: Float[Tensor, "row some_pos d_model"],
        entries: Shaped[Tensor, "n"] | None = None,
        rest: tuple[Any, ...] | None = None,
    ) -> Float[Tensor, "row n"]:
        """The outputs, or some entries of them, for a residual stream that leaves the last layer: the model's own
        forward with its layers left out, so that norms, scales, caps, pooling and heads stay the model's own.

        Args:
            inputs: those of the rows; one is enough where the outputs do not look at them (`embeds_one`).
            rest: what the layers return besides the stream, None where they return the stream alone.
        """
        with self.lock, self.state_put_back(), layers_left_out(self, stream, rest):
            outputs = self.outputs(inputs)
        return outputs if entries is None else outputs[:, entries]

    def choose_readout(self, base: LayersRun) -> None:
        """For the self-check: find out on a base run whether a cheaper readout gives the same; none is known here."""

    def proof_length(self, length: int) -> int:
        """At which length it is proven that runs of a length resume exactly (`workbench.models.proofs`): at that
        length itself."""
        return length

    def proof_inputs(self, length: int, rows: Sequence[Tensor]) -> Shaped[Tensor, "two pos *rest"]:
        """Two different inputs of a length for that proof: of the inputs in use, `rows`; of one alone, the second has
        its positions in the reverse order."""
        one, *others = [x for x in rows if len(x) == length]
        other = next((x for x in others if not torch.equal(x, one)), one.flip(0))
        return torch.stack([one, other]).to(self.device)

    def resumable_form(self: Any) -> ResumableModel:
        """What the engine runs."""
        return ResumableLayers(self)

    def prepare(self, task: Any, argument: str = "task") -> PairedInputs:
        """Inputs for the engine, of whatever a user may pass for them; `argument` is what it was passed for. What names
        the model's modality (``task.modality``) makes them itself, by ``task.inputs(model)``.

        Raises:
            UsageError: something that is none.
        """
        if getattr(task, "modality", None) == self.modality and not isinstance(task, type):
            task = task.inputs(self)
        if isinstance(task, PairedInputs):
            for name in ("clean", "corrupt"):
                for i, row in enumerate(getattr(task, name)):
                    self.check_content(f"{name}[{i}]", row)
            return task
        why = f"this is a model of {self.modality} inputs"
        raise arguments.refusal(argument, task, INPUTS.get(self.modality, "wb.PairedInputs"), because=why)

    def labels(self, inputs: Shaped[Tensor, "pos *rest"]) -> tuple[str, ...]:
        """A label for each position of one input, for tables and figures: its index."""
        return tuple(map(str, range(len(inputs))))

    def info(self: Any, inputs: PairedInputs) -> dict[str, Any]:
        """What a result says of the model and of its inputs (JSON-able)."""
        return {
            "model": self.provenance.get("name"),
            "model_sha256": self.provenance.get("sha256"),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "attention": self.attention_implementation,
            **({"operators": {str(i): str(bound) for i, bound in self.operators.items()}} if self.operators else {}),
            **({} if self.z_is_projected else {"z": "before a gate or norm"}),
            "exact": "resumed" if self.proofs.known(inputs) else "full forwards",
        }

    def identity_facts(self) -> dict[str, Any] | None:
        """What else changes the model's numbers (JSON-able), besides its weights, its configuration, plain attributes
        of its modules and the files in which your classes are written: whatever `outputs` or a module reads from
        elsewhere. None, the default, where that is not known: nothing is then cached."""
        return None

    def transformer_lens_config(self: Any) -> TransformerLensConfig:
        """The sizes as a TransformerLens configuration."""
        return transformer_lens_config(self)
