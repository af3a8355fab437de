"""The Python script that gives what the page Diffusion sweeps and edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.diffusion.sampled import Settings
from app.script_lines import edit_text, load_lines, sweep_lines
from workbench.core import Edit


def sweep_script(model_name: str, settings: Settings, readout: str, arguments: Mapping[str, Any], n: int) -> str:
    """A script that runs the sweep, and prints a row for each cell.

    Args:
        readout: the classifier that the metric reads; empty for pixels.
        arguments: of the sweep.
        n: how many samples.
    """
    lines = [*_model(model_name, settings, readout), f"samples = {_samples(settings, n)}"]
    return "\n".join([*lines, *sweep_lines("samples", arguments)]) + "\n"


def edit_script(model_name: str, settings: Settings, readout: str, edits: Sequence[Edit]) -> str:
    """A script that samples without and with the edits, and prints how far both samples are apart before each step and
    at the end, the metrics, and the classes where a classifier reads them."""
    lines = [
        *_model(model_name, settings),
        f"sample = {_samples(settings, 1)}",
        "edits = [",
        *(f"    {edit_text(edit)}," for edit in edits),
        "]",
        "",
        "plain, edited = wb.trajectory(model, sample), wb.trajectory(model, sample, edits)",
        "print(plain.distances(edited))",
        "metrics = scores_table(wb.run(model, sample, edits))",
        "print(metrics)",
    ]
    if readout:
        lines += [
            f"classes = wb.run(model.resampled(readout=wb.load({readout!r})), sample, edits).table()",
            "print(classes)",
        ]
    first, *others = lines
    return "\n".join([first, "from workbench.patching.scores_table import scores_table", *others]) + "\n"


def _model(model_name: str, settings: Settings, readout: str = "") -> list[str]:
    lines = ["import workbench as wb", "", *load_lines(model_name)]
    keywords = [f"{name}={value!r}" for name, value in settings.sampling.items()]
    keywords.append(f"readout=wb.load({readout!r})" if readout else "readout=None")
    return [*lines, f"model = model.resampled({', '.join(keywords)})"]


def _samples(settings: Settings, n: int) -> str:
    arguments = settings.prompts(n)["latents"]
    return f"wb.latents({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
