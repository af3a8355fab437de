"""The Python that gives what the page Patching shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.patching.manual_edits import EditedPrompt
from workbench.core import Edit


def python_script(
    name: str,
    prompts: Mapping[str, Any],
    arguments: Mapping[str, Any],
    where: EditedPrompt,
    text: str,
    edits: Sequence[Edit],
) -> str:
    """A script that sweeps, makes the edits, and prints both.

    Args:
        given: the arguments of the sweep.
        text: the prompt on the left, where that is what is edited.
    """
    arguments = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    lines = [
        "import workbench as wb",
        "",
        f"model = wb.load({name!r})",
        _prompts(prompts),
        f"sweep = wb.sweep(model, prompts, {arguments})",
        "print(sweep.table())",
    ]
    if edits:
        lines += ["", "edits = [", *(f"    {_edit(edit)}," for edit in edits), "]", *_run(where, text)]
        lines += ["print(out.top(8))"]
    return "\n".join(lines) + "\n"


def _prompts(prompts: Mapping[str, Any]) -> str:
    if "task" in prompts:
        return f"prompts = wb.task({prompts['task']!r}, n={prompts['n']}, seed={prompts['seed']})"
    pairs = prompts.load_prompts(prompts).items
    columns = ("clean", "corrupt", "answer", "wrong", "options", "positions")
    columns2 = {c: [_plain(getattr(pair, c)) for pair in pairs] for c in columns}
    columns2 = {c: values for c, values in columns2.items() if c in columns[:4] or any(values)}
    return "\n".join(["prompts = wb.pairs(", *(f"    {c}={values!r}," for c, values in columns2.items()), ")"])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _edit(edit: Edit) -> str:
    words = [repr(edit.site), str(edit.layer), f"head={edit.head}"]
    words += [] if edit.position is None else [f"position={edit.position!r}"]
    words += [f"kind={edit.kind!r}"] + ([] if edit.attend_to is None else [f"attend_to={edit.attend_to!r}"])
    return f"wb.Edit({', '.join(words)})"


def _run(where: EditedPrompt, text: str) -> list[str]:
    if not where.pairs:
        return [f"out = wb.run(model, {text!r}, edits, mean_over='positions')"]
    return [
        "inputs = prompts.inputs(model.tokenizer, max_length=model.cfg.n_ctx or None)",
        f"out = wb.run(model, inputs.of([{where.index}]), edits, base={where.base!r}, mean_over=inputs)",
    ]
