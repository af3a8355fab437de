"""All that is wrong with pairs of one's own, row by row, as one model's tokeniser sees them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import BadInput
from workbench.inputs.files import read_rows
from workbench.inputs.pairs import Pairs, check_tokenizer
from workbench.inputs.rows import Pair, PairNotice, pair_from_row

if TYPE_CHECKING:
    import pandas as pd

    from workbench.models.language import HookedLM


@dataclass(frozen=True)
class PairProblem:
    """Why a pair cannot be used.

    Attributes:
        row: which pair, from 1.
        where: the place it comes from: ``my.csv line 3``.
        column: the field that is at fault; empty where it is the tokeniser.
        problem: the reason, and what to do.
    """

    row: int
    where: str
    column: str
    problem: str


def check_pairs(model: HookedLM, pairs: Pairs | str | Path) -> pd.DataFrame:
    """Which pairs a model cannot be asked, and why: one row for each of them, none where all can be used.

    A pair can be used where clean and corrupt have the same number of tokens, at most the model's context, and differ
    in one, and where each answer is one known token after both prompts: what `Pairs.inputs` demands, which a sweep
    raises for the first pair alone. Nothing is run.

    Args:
        model: a language model with a tokeniser.
        pairs: of `pairs` or `read_pairs`; or the path of a pair file, of which also the rows are listed that are no
            pairs for any model (an empty answer), where `read_pairs` refuses the first.

    Returns:
        ``row`` (from 1), ``where`` (``my.csv line 3``), ``column`` (the field at fault) and ``problem``, the first of
        each pair.

    Raises:
        UsageError: another kind of model, pairs or file.
        BadInput: a file that cannot be read as rows at all: the line, the problem and what to do.

    Examples:
        >>> pairs = wb.pairs(["So Mary met John"] * 2, ["So Mary met Anna"] * 2, [" Mary", " Mary Ann"], [" Anna"] * 2)
        >>> table = wb.check_pairs(wb.load("tiny"), pairs)
        >>> table[["row", "where", "column"]].values.tolist()
        [[2, 'pair 2', 'answer']]
    """
    import pandas as pd

    if getattr(model, "modality", "") != "language":
        raise arguments.refusal("model", model, "a language model", "Use wb.load(name).")
    if model.tokenizer is None:
        raise arguments.refusal("model", model, "a model with a tokeniser", "Use wb.HookedLM(model, tokenizer).")
    rows: Iterable[tuple[str, Pair | Mapping[str, Any]]]
    if isinstance(pairs, Pairs):
        rows = zip(pairs.where, pairs.items, strict=True)
    elif isinstance(pairs, str | os.PathLike):
        rows = read_rows(arguments.file_path("pairs", pairs, "the path of a .jsonl, .json or .csv file"), "pairs")
    else:
        do = "Use wb.pairs(...) or wb.read_pairs(path)."
        raise arguments.refusal("pairs", pairs, "pairs, or the path of a pair file", do)
    problems = find_problems(rows, model.tokenizer, model.cfg.n_ctx or None)
    return pd.DataFrame(map(asdict, problems), columns=[field.name for field in fields(PairProblem)])


def find_problems(
    pairs: Iterable[tuple[str, Pair | Mapping[str, Any]]], tokenizer: Any, max_length: int | None = None
) -> list[PairProblem]:
    """The pairs, or rows of a pair file, that this tokeniser cannot ask, each with where it comes from."""
    from workbench.inputs.tokenising import encode

    check_tokenizer(tokenizer)
    problems: list[PairProblem] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PairNotice)
        for row, (where, pair) in enumerate(pairs, start=1):
            try:
                encode(pair if isinstance(pair, Pair) else pair_from_row(pair, where), tokenizer, max_length)
            except BadInput as error:
                problems.append(PairProblem(row, where, error.column, str(error).removeprefix(f"{where}: ")))
    return problems
