"""The Python script that gives what the page Patching shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.patching.manual_edits import EditedPrompt
from app.script_lines import edit_text, load_lines, sweep_lines
from app.work.prompts import load_prompts
from workbench.core import Edit


def python_script(
    model_name: str,
    prompts: Mapping[str, Any] | None,
    arguments: Mapping[str, Any],
    edited: EditedPrompt | None,
    text: str,
    edits: Sequence[Edit],
    new_tokens: int = 0,
) -> str:
    """A script that runs the sweep and the edits, and prints both.

    Args:
        prompts: as `load_prompts` takes them; None where there is nothing to sweep.
        arguments: of the sweep.
        edited: the prompt that is edited.
        text: the side bar's prompt, where that is edited.
        new_tokens: how many are generated before and after the edits.
    """
    lines = ["import workbench as wb", "", *load_lines(model_name)]
    if prompts is not None:
        lines += [_prompts(prompts), *sweep_lines("prompts", arguments)]
    if edits and edited is not None:
        lines += ["", "edits = [", *(f"    {edit_text(edit)}," for edit in edits), "]", *_run(edited, text)]
        if new_tokens and all(edit.kind != "patch" for edit in edits):
            lines += _generations(edited, text, new_tokens, any(edit.kind == "mean" for edit in edits))
    return "\n".join(lines) + "\n"


def _prompts(prompts: Mapping[str, Any]) -> str:
    if "task" in prompts:
        return f"prompts = wb.task({prompts['task']!r}, n={prompts['n']}, seed={prompts['seed']})"
    own = load_prompts(prompts)
    pairs = own.items
    required, optional = ("clean", "corrupt", "answer", "wrong"), ("options", "positions")
    values = {name: [_literal(getattr(pair, name)) for pair in pairs] for name in (*required, *optional)}
    used = {name: column for name, column in values.items() if name in required or any(column)}
    return "\n".join(
        ["prompts = wb.pairs(", *(f"    {k}={x!r}," for k, x in used.items()), f"    name={own.name!r},", ")"]
    )


def _literal(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _run(edited: EditedPrompt, text: str) -> list[str]:
    """The prompt, its run, and the tables that the page shows."""
    if edited.pairs:
        lines = [
            "inputs = prompts.inputs(model.tokenizer, max_length=model.cfg.n_ctx or None)",
            f"out = wb.run(model, inputs.of([{edited.index}]), edits, base={edited.base!r}, mean_over=inputs)",
        ]
    elif edited.chat:
        lines = [
            "from workbench.models.prompts import chat_ids, unpaired",
            f"inputs = unpaired(model, [chat_ids(model, {text!r})])",
            "out = wb.run(model, inputs, edits, mean_over='positions')",
        ]
    else:
        lines = [f"out = wb.run(model, {text!r}, edits, mean_over='positions')"]
    return [*lines, "print(out.table(), out.kl())"]


def _generations(edited: EditedPrompt, text: str, new_tokens: int, has_mean: bool) -> list[str]:
    """Both texts."""
    prompt = f"inputs.{edited.base}[{edited.index}]" if edited.pairs else repr(text)
    mean_over = ("inputs" if edited.pairs or edited.chat else repr(text)) if has_mean else None
    keywords = f"edits=edits, max_new_tokens={new_tokens}"
    keywords += (f", mean_over={mean_over}" if mean_over else "") + (", chat=True" if edited.chat else "")
    return [f"print(wb.generations(model, {prompt}, {keywords}).table())"]
