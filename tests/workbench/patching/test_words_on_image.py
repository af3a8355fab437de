"""Maps of words over an image, against softmax(q k) of what diffusers gives PyTorch's attention function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import workbench as wb
from tests.small_diffusers import HEADS, dit, flux, inputs_of, pixart, sd3
from workbench.errors import UnknownName, UsageError
from workbench.plotting import matplotlib_charts

SIDE = 4
WORDS = {"a": [0], "black dog": [1, 3], "end": [4]}


def plain_patterns(model: Any) -> list[Tensor]:
    """``[batch, head, dest, src]`` of every attention call, in order."""
    patterns: list[Tensor] = []
    own = torch.nn.functional.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        patterns.append((query @ key.mT / query.shape[-1] ** 0.5).softmax(-1))
        return own(query, key, value, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = attend
    try:
        model(**inputs_of(model))
    finally:
        torch.nn.functional.scaled_dot_product_attention = own
    return patterns


#: Model, hook point, the call that it is, and the places of image and text among queries and keys.
JOINT_LAST, JOINT_FIRST = (slice(0, 16), slice(16, 21)), (slice(5, 21), slice(0, 5))
CASES: list[tuple[Callable[[], Any], str, int, tuple[slice, slice], tuple[slice, slice]]] = [
    (sd3, "blocks.0.attn.hook_pattern", 0, JOINT_LAST, JOINT_LAST),
    (sd3, "blocks.1.attn.hook_pattern", 1, JOINT_LAST, JOINT_LAST),
    (flux, "blocks.1.attn.hook_pattern", 1, JOINT_FIRST, JOINT_FIRST),
    (flux, "single_blocks.0.attn.hook_pattern", 3, JOINT_FIRST, JOINT_FIRST),
    (pixart, "blocks.1.cross_attn.hook_pattern", 3, (slice(0, 16), slice(0, 0)), (slice(0, 0), slice(0, 5))),
]


@pytest.mark.parametrize(("make", "name", "at", "dest", "src"), CASES, ids=[f"{c[0].__name__}-{c[1]}" for c in CASES])
def test_maps_are_those_of_plain_attention(
    make: Callable[[], Any], name: str, at: int, dest: tuple[slice, slice], src: tuple[slice, slice]
) -> None:
    model = make()
    A = plain_patterns(model)[at][1]
    hooked = wb.HookedDiffusers(model)
    _, recorded = hooked.run_with_cache(**inputs_of(model), names_filter=name)
    seen = wb.words_on_image(hooked, recorded, f"{name}@0", WORDS, row=1)
    assert seen.words == tuple(WORDS) and seen.maps.shape == (3, HEADS, SIDE, SIDE)
    to_words = A[:, dest[0], src[1]]
    for word, positions in WORDS.items():
        expected = torch.stack([to_words[:, :, i] for i in positions]).sum(0).unflatten(-1, (SIDE, SIDE))
        for head in range(HEADS):
            np.testing.assert_allclose(seen.of(word, head), expected[head], atol=1e-5)
        np.testing.assert_allclose(seen.of(word), expected.mean(0), atol=1e-5)
    if dest[1].stop:
        from_words = wb.words_on_image(hooked, recorded, f"{name}@0", WORDS, row=1, attends="text", grid=(2, 8))
        expected = A[:, dest[1], src[0]][:, [1, 3]].mean(1).unflatten(-1, (2, 8))
        np.testing.assert_allclose(from_words.maps[1], expected, atol=1e-5)
    else:
        with pytest.raises(UsageError, match=r"^dest='text'"):
            wb.words_on_image(hooked, recorded, f"{name}@0", WORDS, attends="text")


def test_names_for_each_position_tables_and_pictures() -> None:
    model = sd3()
    hooked = wb.HookedDiffusers(model)
    _, recorded = hooked.run_with_cache(**inputs_of(model), names_filter="blocks.1.attn.hook_pattern")
    names = ["a", "$dog", "and", "a", "</s>"]
    seen = wb.words_on_image(hooked, recorded, "blocks.1.attn.hook_pattern@0", names)
    assert seen.words == ("a", "$dog", "and", "a (3)", "</s>")
    table = seen.table()
    entry = table.query("word == 'a (3)' and head_index == 2 and row == 1 and column == 3")["weight"]
    assert entry.item() == seen.maps[3, 2, 1, 3] and len(table) == 5 * HEADS * 16
    for picture in (seen.picture(), seen.picture(1, np.zeros((8, 8, 3), np.uint8))):
        assert matplotlib_charts.image(picture, "png", 80).startswith(b"\x89PNG")


def test_what_does_not_fit_is_one_line() -> None:
    model, name = sd3(), "blocks.1.attn.hook_pattern"
    hooked = wb.HookedDiffusers(model)
    _, recorded = hooked.run_with_cache(**inputs_of(model), names_filter=[name, "blocks.1.attn.hook_z"])
    with pytest.raises(UnknownName, match="Did you mean"):
        wb.words_on_image(hooked, recorded, f"{name}@1", WORDS)
    for settings, message in (
        ({"name": "blocks.1.attn.hook_z@0"}, r"^name=.*: expected a hook point of patterns"),
        ({"words": {"dog": [5]}}, r"^words\['dog'\]"),
        ({"words": ["a", "dog"]}, r"^words=.*: expected 5 names"),
        ({"words": {}}, r"^words=.*: expected at least one word"),
        ({"row": 2}, r"^row=2"),
        ({"grid": (3, 5)}, r"^grid=.*: expected rows and columns, whose product is 16"),
        ({"model": model}, r"^model=.*: expected the wb.HookedDiffusers"),
    ):
        arguments: Any = {"model": hooked, "recorded": recorded, "name": f"{name}@0", "words": WORDS}
        with pytest.raises(UsageError, match=message):
            wb.words_on_image(**{**arguments, **settings})
    without = wb.HookedDiffusers(dit())
    noise, classes = torch.randn(1, 2, 8, 8), torch.tensor([1])
    _, recorded = without.run_with_cache(
        noise, timestep=torch.tensor([5]), class_labels=classes, names_filter="blocks.0.attn.hook_pattern"
    )
    with pytest.raises(UsageError, match=r"^src='text'"):
        wb.words_on_image(without, recorded, "blocks.0.attn.hook_pattern@0", WORDS)


def tokenizer() -> PreTrainedTokenizerFast:
    pieces = {"<unk>": 0, "a": 1, "black": 2, "dog": 3, ",": 4, "s": 5}
    own = Tokenizer(models.WordLevel(pieces, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Split("s", "isolated")])
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>")


def test_words_are_found_among_the_tokens() -> None:
    # a | black | dog s , | a | dog
    positions = wb.word_positions(tokenizer(), "a black  dogs, a dog")
    assert positions == {"a": (0,), "black": (1,), "dogs,": (2, 3, 4), "a (2)": (5,), "dog": (6,)}
    assert wb.word_positions(tokenizer(), "a dog", start=77) == {"a": (77,), "dog": (78,)}
    with pytest.raises(UsageError, match=r"^tokenizer=.*: expected a fast tokenizer"):
        wb.word_positions(object(), "a dog")
    with pytest.raises(UsageError, match=r"^prompt="):
        wb.word_positions(tokenizer(), "   ")
