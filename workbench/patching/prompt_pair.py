"""Two prompts as a pair, with the likeliest next token of each as its answers."""

from __future__ import annotations

from typing import Any

from workbench import arguments
from workbench.errors import BadInput, UsageError
from workbench.inputs.pairs import Pairs, pairs
from workbench.inputs.rows import Pair
from workbench.inputs.tokenising import encode
from workbench.patching.resolve import require_language
from workbench.patching.run import run

#: Next tokens of each prompt that are tried as answers: some are no text of their own, such as a part of a character.
TRIED = 20
#: Characters of a prompt that a message quotes.
QUOTED = 40


def prompt_pair(model: Any, clean: str, corrupt: str, *, answer: str | None = None, wrong: str | None = None) -> Pairs:
    """Two prompts as one pair, for `wb.sweep` and all that takes pairs.

    The answer is the likeliest next token after the clean prompt by default, and the wrong answer the likeliest one
    after the corrupt prompt that is not the answer; tokens that are not one token as text, after both prompts, are left
    out.

    Args:
        model: a `HookedLM`.
        clean, corrupt: the prompts; of equally many tokens.
        answer, wrong: one token each, as text.

    Raises:
        UsageError, BadInput: prompts of unequal length or of the same tokens, or an answer that is not one token.

    Examples:
        >>> model = wb.load("tiny")
        >>> pair = wb.prompt_pair(model, "Then, Mary and John", "Then, Paul and John").items[0]
        >>> pair.answer != pair.wrong
        True
    """
    require_language(model, "wb.prompt_pair compares two texts")
    for name, text in (("clean", clean), ("corrupt", corrupt)):
        arguments.text(name, text)
    for name, text in (("answer", answer), ("wrong", wrong)):
        if text is not None:
            arguments.text(name, text, "one token as text, or None")
    if model.tokenizer is None:
        raise arguments.refusal("clean", clean, "a model with a tokenizer", because="this one has none")
    longest = model.cfg.n_ctx or None
    ids = [list(model.tokenizer(text)["input_ids"]) for text in (clean, corrupt)]
    if len(ids[0]) != len(ids[1]) or ids[0] == ids[1]:
        try:
            encode(Pair(clean, corrupt, ("a",), ("b",)), model.tokenizer)  # says where they differ
        except BadInput as error:
            raise BadInput(f"clean={clean[:QUOTED]!r}, corrupt={corrupt[:QUOTED]!r}: {error}") from None
    if answer is None or wrong is None:
        logits = run(model, [clean, corrupt], [], unedited=False).logits
        likeliest = [[model.tokenizer.decode([i]) for i in row.topk(TRIED).indices.tolist()] for row in logits]
        answers, wrongs = (
            likely if word is None else [word] for word, likely in zip((answer, wrong), likeliest, strict=True)
        )
        candidates = ((a, b) for a in answers for b in wrongs if a and b and a != b)
        fitting = (
            words for words in candidates if _fits(Pair(clean, corrupt, (words[0],), (words[1],)), model.tokenizer)
        )
        answer, wrong = next(fitting, (None, None))
    if answer is None or wrong is None:
        raise UsageError("answer=None: no likely next token is one token as text. Give answer= and wrong=.")
    result = pairs(clean=[clean], corrupt=[corrupt], answer=[answer], wrong=[wrong])
    encode(result.items[0], model.tokenizer, longest)
    return result


def _fits(pair: Pair, tokenizer: Any) -> bool:
    try:
        encode(pair, tokenizer)
    except BadInput:
        return False
    return True
