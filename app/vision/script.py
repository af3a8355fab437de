"""The Python script that gives what the page Vision edits and sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import upload_store
from app.script_lines import edit_text, load_lines, sweep_lines
from app.vision.edits import Editing


def python_script(
    model_name: str,
    images: Mapping[str, Any],
    editing: Editing,
    several: Mapping[str, Any],
    arguments: Mapping[str, Any],
    outputs_are: str,
) -> str:
    """A script that makes the edits and runs the sweep, and prints both.

    Args:
        images, several: of the edits and of the sweep, as `app.work.images.read_pair` takes them.
        arguments: of the sweep.
    """
    has_classes = outputs_are == "logits"
    code = _images(images)
    lines = ["import sklearn.datasets"] if any("sklearn." in line for line in code) else []
    lines += ["import workbench as wb", "", *load_lines(model_name)]
    lines += [*code, *(["images = images.answered_by(model)"] if has_classes else []), ""]
    lines += ["edits = [", *(f"    {edit_text(edit)}," for edit in editing.edits), "]"]
    call = f"(model, images, edits, base={editing.base!r}, mean_over='positions')"
    if has_classes:
        lines += [f"outcome = wb.run{call}", "print(outcome.table(), outcome.kl())", ""]
    else:
        lines += [f"print(wb.feature_change{call})", ""]
    of_sweep = "images"
    if several != images:
        of_sweep = "several"
        lines += [*_images(several, "several"), *(["several = several.answered_by(model)"] if has_classes else [])]
    return "\n".join([*lines, *sweep_lines(of_sweep, arguments)]) + "\n"


def _images(images: Mapping[str, Any], to: str = "images") -> list[str]:
    """The images, or the pairs, as the model sees them, in a variable of that name."""
    lines, corrupt = [f"{to} = {_image(images['clean'])}.as_seen_by(model)"], images.get("corrupt")
    if corrupt is None:
        return lines
    if "other" in corrupt:
        lines.append(f"other = {_image(corrupt['other'])}.as_seen_by(model)")
    if "corruption" not in corrupt:
        is_one = "numbers" not in corrupt["other"] and {"numbers", "files"} & images["clean"].keys()
        return [*lines, f"{to} = {to}.paired_with({f'other.of([0] * len({to}))' if is_one else 'other'})"]
    place = {name: corrupt[name] for name in ("region", "size") if name in corrupt}
    keywords = {"seed": corrupt["seed"], **place, **corrupt["settings"]}
    call = (
        f".corrupted({corrupt['corruption']!r}, {', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
    )
    if "other" not in corrupt:
        return [*lines, f"{to} = {to}{call}"]
    together = f"wb.images([*{to}.images(), *other.images()]).as_seen_by(model)"
    return [*lines, f"{to} = {together}{call}.of(range(len({to})))"]


def _image(image: Mapping[str, Any]) -> str:
    if "numbers" in image:
        pixels = f"wb.image_set({image['set']!r}).test.pixels[{image['numbers']}]"
        return f"wb.images(list({pixels}.transpose(0, 2, 3, 1)))"
    if "files" in image:
        return f"wb.images({[upload_store.load_file(str(file), 'an image')[0] for file in image['files']]!r})"
    if "set" in image:
        pixels = f"wb.image_set({image['set']!r}).test.pixels[{image['number']}]"
        return f"wb.images([{pixels}.transpose(1, 2, 0)])"
    if "photo" in image:
        return f"wb.images([sklearn.datasets.load_sample_image({image['photo']!r})])"
    return f"wb.images([{upload_store.load_file(str(image['file']), 'an image')[0]!r}])"
