"""What a trained model is shipped as: configuration, weights, and a card that says how good it is."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import nn

from .recipe import CHECKPOINTS, VERSIONS, Measured, Recipe, version

WEIGHTS, CARD, CONFIG = "model.safetensors", "README.md", "config.json"

TEXT = """# {name}

{described}; {parameters:,} parameters, float32. The project trains it itself: `workbench train {name}`.

{data} Licence of the weights: MIT.
- Recipe: `data/training/{file}.py`. {facts}; one thread, {versions}.

{verdict}

| measure | value | at least |
|---|---|---|
{rows}

{whats}

SHA-256 of {weights}: {sha256}
"""


@dataclass(frozen=True)
class Finished:
    """A trained model in its folder: the SHA-256 of its weights, how many parameters, and what was measured."""

    folder: Path
    sha256: str
    parameters: int
    measured: dict[str, Measured]


def write(recipe: Recipe, network: nn.Module, folder: Path) -> Finished:
    """Measure a trained model and write it with its card into a folder; the checkpoints there are kept."""
    measured = recipe.measure(network)
    parameters = sum(x.numel() for x in network.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as work:
        new = Path(work)
        recipe.save(network, new)
        sha256 = hashlib.sha256((new / WEIGHTS).read_bytes()).hexdigest()
        (new / CARD).write_text(_card(recipe, measured, parameters, sha256), encoding="utf-8")
        for path in sorted(new.iterdir(), key=lambda path: path.name == CARD):  # the card last: then all is there
            path.chmod(0o644)
            shutil.move(path, folder / path.name)
    return Finished(folder, sha256, parameters, measured)


def finished(folder: Path) -> str | None:
    """The SHA-256 of the weights in a folder that `write` has filled; None where there is none."""
    if not all((folder / name).is_file() for name in (WEIGHTS, CARD, CONFIG)):
        return None
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return sha256 if sha256 in (folder / CARD).read_text(encoding="utf-8") else None


def shipped(name: str) -> str | None:
    """The SHA-256 of the weights that are shipped of a recipe; None where there are none yet."""
    return finished(CHECKPOINTS / name)


def values(folder: Path) -> dict[str, float]:
    """The numbers on a card, by measure."""
    lines = (folder / CARD).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: float(value) for name, value, *_ in cells if name != "measure"}


def n_parameters(folder: Path) -> int:
    """How many numbers the weights hold."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())


def _card(recipe: Recipe, measured: dict[str, Measured], parameters: int, sha256: str) -> str:
    missed = [name for name, one in measured.items() if not one.reached]
    verdict = (
        f"**Not reached: {', '.join(missed)}.**"
        if missed
        else "Every threshold, fixed before training, is reached."
        if "accuracy" not in measured or measured["accuracy"].at_least is not None
        else "No threshold was set for the accuracy; the others, fixed before training, are reached."
    )
    bars = {name: "–" if one.at_least is None else f"{one.at_least:.2f}" for name, one in measured.items()}
    return TEXT.format(
        name=recipe.name,
        described=recipe.described,
        parameters=parameters,
        data=recipe.data,
        file=recipe.name.replace("-", "_"),
        facts=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.facts().items()),
        versions=", ".join(f"{package} {version(package)}" for package in VERSIONS),
        verdict=verdict,
        rows="\n".join(f"| {name} | {one.value:.4f} | {bars[name]} |" for name, one in measured.items()),
        whats="\n".join(f"- {name}: {one.what}." for name, one in measured.items()),
        weights=WEIGHTS,
        sha256=sha256,
    )
