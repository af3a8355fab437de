"""The Python that gives what the page Patching shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.patching.by_hand import Place
from app.work import sweeps
from workbench.core import Edit


def code(
    name: str, asked: Mapping[str, Any], given: Mapping[str, Any], where: Place, text: str, made: Sequence[Edit]
) -> str:
    """A script that sweeps, makes the edits, and prints both.

    Args:
        given: the arguments of the sweep.
        text: the prompt on the left, where that is what is edited.
    """
    arguments = ", ".join(f"{key}={value!r}" for key, value in given.items())
    lines = [
        "import workbench as wb",
        "",
        f"model = wb.load({name!r})",
        _prompts(asked),
        f"sweep = wb.sweep(model, prompts, {arguments})",
        "print(sweep.table())",
    ]
    if made:
        lines += ["", "edits = [", *(f"    {_edit(edit)}," for edit in made), "]", *_run(where, text)]
        lines += ["print(out.top(8))"]
    return "\n".join(lines) + "\n"


def _prompts(asked: Mapping[str, Any]) -> str:
    if "task" in asked:
        return f"prompts = wb.task({asked['task']!r}, n={asked['n']}, seed={asked['seed']})"
    pairs = sweeps.prompts(asked).items
    columns = ("clean", "corrupt", "answer", "wrong", "options", "positions")
    given = {c: [_plain(getattr(pair, c)) for pair in pairs] for c in columns}
    given = {c: values for c, values in given.items() if c in columns[:4] or any(values)}
    return "\n".join(["prompts = wb.pairs(", *(f"    {c}={values!r}," for c, values in given.items()), ")"])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _edit(edit: Edit) -> str:
    words = [repr(edit.site), str(edit.layer), f"head={edit.head}"]
    words += [] if edit.position is None else [f"position={edit.position!r}"]
    words += [f"kind={edit.kind!r}"] + ([] if edit.attend_to is None else [f"attend_to={edit.attend_to!r}"])
    return f"wb.Edit({', '.join(words)})"


def _run(where: Place, text: str) -> list[str]:
    if not where.asked:
        return [f"out = wb.run(model, {text!r}, edits, mean_over='positions')"]
    return [
        "inputs = prompts.inputs(model.tokenizer, max_length=model.cfg.n_ctx or None)",
        f"out = wb.run(model, inputs.of([{where.index}]), edits, base={where.base!r}, mean_over=inputs)",
    ]
