"""`words_on_image`: which patches of an image attend to which words, in a recording of a pipeline of diffusers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench import arguments
from workbench.errors import UnknownName
from workbench.models.precision import at_least_float32
from workbench.models.steps import split_step

if TYPE_CHECKING:
    from workbench.plotting.word_maps import WordMaps

Positions = Mapping[str, Sequence[int]]
#: Which part attends, and the units of its maps.
ATTENDS = {"image": "attention to the word", "text": "attention of the word"}


def words_on_image(
    model: Any,
    recorded: Mapping[str, Tensor],
    name: str,
    words: Positions | Sequence[str],
    *,
    row: int = 0,
    grid: tuple[int, int] | None = None,
    attends: str = "image",
) -> WordMaps:
    """Maps of words over an image: ``maps[word, head, row, column]``.

    Of a joint pattern A (SD3, Flux), or one of attention to the text (PixArt), with patches p and a word's tokens t:
    ``map[p] = Σ_t A[p, t]``, what a patch attends to the word (Tang et al., "What the DAAM", 2023, without its sum over
    layers and steps); with ``attends="text"``, ``map[p] = mean_t A[t, p]``, what the word attends to a patch.

    Args:
        model: the `HookedDiffusers` that made the recording.
        recorded: `HookedDiffusers.recording` or the cache of `run_with_cache`.
        name: a hook point of patterns, with its step: ``"blocks.3.attn.hook_pattern@5"``.
        words: the positions of each word in the text, as `word_positions` has them; or a name for each position.
        row: which input of the batch; under guidance, diffusers puts those with the prompt behind those without.
        grid: rows and columns of patches; a square by default.
        attends: ``"image"`` or ``"text"``.

    Raises:
        UnknownName: the recording has no such name.
        UsageError: no pattern, a model without text in its attention, or positions or a grid that do not fit.

    Examples:
        >>> import torch
        >>> from diffusers import SD3Transformer2DModel
        >>> sizes = dict(num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8, patch_size=2)
        >>> width = dict(in_channels=2, caption_projection_dim=16, joint_attention_dim=6, pooled_projection_dim=4)
        >>> dit = wb.HookedDiffusers(SD3Transformer2DModel(**sizes, **width, pos_embed_max_size=8).eval())
        >>> text = dict(encoder_hidden_states=torch.randn(1, 3, 6), pooled_projections=torch.randn(1, 4))
        >>> with dit.recording("blocks.0.attn.hook_pattern") as recorded:  # around your own pipe(prompt)
        ...     _ = dit(torch.randn(1, 2, 8, 8), timestep=torch.tensor([900]), **text)
        >>> maps = wb.words_on_image(dit, recorded, "blocks.0.attn.hook_pattern@0", {"a": [0], "black dog": [1, 2]})
        >>> maps.of("black dog", head=1).shape  # [row, column]
        (4, 4)
    """
    from workbench.models.diffusion.in_place import HookedDiffusers
    from workbench.plotting.word_maps import WordMaps

    if not isinstance(model, HookedDiffusers):
        raise arguments.refusal("model", model, "the wb.HookedDiffusers that made the recording")
    arguments.one_of("attends", attends, ATTENDS)
    if not (
        isinstance(recorded, Mapping)
        and recorded
        and all(isinstance(activation, Tensor) for activation in recorded.values())
    ):
        raise arguments.refusal("recorded", recorded, "a recording: tensors by the names of hook points")
    if arguments.text("name", name, "the name of a hook point") not in recorded:
        raise UnknownName("recorded hook point", name, recorded, argument="name")
    if not split_step(name)[0].endswith("hook_pattern"):
        raise arguments.refusal("name", name, "a hook point of patterns", "Record blocks.3.attn.hook_pattern.")
    pattern = recorded[name]
    row = arguments.index("row", row, len(pattern), "row")
    other = "text" if attends == "image" else "image"
    A = at_least_float32(model.part(name, pattern, attends, other)[row]).cpu()
    A = A if attends == "image" else A.mT  # [head, patch, token]
    positions = _positions(words, A.shape[-1])
    rows, columns = _grid(grid, A.shape[1])
    maps = [
        A[:, :, list(at)].sum(-1) if attends == "image" else A[:, :, list(at)].mean(-1) for at in positions.values()
    ]
    return WordMaps(
        torch.stack(maps).unflatten(-1, (rows, columns)).numpy(),
        tuple(positions),
        name,
        type(model.hf).__name__,
        ATTENDS[attends],
    )


def word_positions(tokenizer: Any, prompt: str, start: int = 0) -> dict[str, tuple[int, ...]]:
    """The positions of each word of a prompt among its tokens; a word that comes again is ``"word (2)"``.

    Args:
        tokenizer: a fast tokenizer of transformers, as the pipeline has it.
        prompt: what the pipeline was called with; words are what stands between spaces.
        start: the position of the tokenizer's first token in the model's text: 0, but in SD3, whose text is that of the
            CLIP tokenizers (77 positions), then that of T5 (``start=77`` with ``pipe.tokenizer_3``).

    Raises:
        UsageError: a tokenizer that does not say where its tokens are, or a prompt without words.

    Examples:
        >>> tokenizer = wb.load("tiny").tokenizer
        >>> wb.word_positions(tokenizer, "Then, Mary and John")
        {'Then,': (0, 1), 'Mary': (2,), 'and': (3,), 'John': (4,)}
    """
    prompt = arguments.text("prompt", prompt)
    start = arguments.whole_number("start", start, at_least=0)
    if not getattr(tokenizer, "is_fast", False):
        why = "only these say where tokens are"
        raise arguments.refusal("tokenizer", tokenizer, "a fast tokenizer of transformers", because=why)
    spans = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    positions: dict[str, tuple[int, ...]] = {}
    for match in re.finditer(r"\S+", prompt):
        at = [i for i, (first, last) in enumerate(spans) if first < match.end() and last > match.start()]
        if not at:  # written by no token of its own
            continue
        name, n = match.group(), 1
        while name in positions:
            name = f"{match.group()} ({(n := n + 1)})"
        positions[name] = tuple(start + i for i in at)
    if not positions:
        raise arguments.refusal("prompt", prompt, "a text with words")
    return positions


def _positions(words: Any, n: int) -> dict[str, tuple[int, ...]]:
    """Checked positions of each word; of names for each position, that position."""
    if isinstance(words, Mapping):
        if not words:
            raise arguments.refusal("words", words, "at least one word with its positions")
        return {
            arguments.text("words", word): arguments.indices(f"words[{word!r}]", at, n, "position of the text")
            for word, at in words.items()
        }
    names = arguments.texts("words", words, "names of words")
    if len(names) != n:
        raise arguments.refusal("words", words, f"{n} names, one for each position of the text, or a mapping")
    positions: dict[str, tuple[int, ...]] = {}
    for i, word in enumerate(names):
        positions[word if word not in positions else f"{word} ({i})"] = (i,)
    return positions


def _grid(grid: Any, n: int) -> tuple[int, int]:
    """Rows and columns of n patches."""
    if grid is None:
        side = math.isqrt(n)
        if side * side != n:
            raise arguments.refusal("grid", None, "rows and columns", because=f"{n} patches are no square")
        return side, side
    sides = np.asarray(grid)
    if sides.shape != (2,) or sides.dtype.kind != "i" or sides.min() < 1 or int(sides.prod()) != n:
        raise arguments.refusal("grid", grid, f"rows and columns, whose product is {n}")
    return int(sides[0]), int(sides[1])
