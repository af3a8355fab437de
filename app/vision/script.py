"""The Python script that gives what the page Vision edits and sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import upload_store
from app.swapped_names import parse_operators, split_name
from app.vision.edits import Editing


def python_script(
    model_name: str, images: Mapping[str, Any], editing: Editing, arguments: Mapping[str, Any], outputs_are: str
) -> str:
    """A script that makes the edits and runs the sweep, and prints both.

    Args:
        images: as `app.work.images.read_pair` takes them.
        arguments: of the sweep.
    """
    own, operators = split_name(model_name)
    code = _images(images)
    lines = ["import sklearn.datasets"] if any("sklearn." in line for line in code) else []
    lines += ["import workbench as wb", "", f"model = wb.load({own!r})"]
    lines += [f"model = wb.swap(model, {parse_operators(operators)!r})"] if operators else []
    lines += [*code, *(["images = images.answered_by(model)"] if outputs_are == "logits" else []), ""]
    lines += ["edits = [", *(f"    {_edit(edit)}," for edit in editing.edits), "]"]
    call = f"(model, images, edits, base={editing.base!r}, mean_over='positions')"
    if outputs_are == "logits":
        lines += [f"outcome = wb.run{call}", "print(outcome.table(), outcome.kl())", ""]
    else:
        lines += [f"print(wb.feature_change{call})", ""]
    keywords = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return "\n".join([*lines, f"sweep = wb.sweep(model, images, {keywords})", "print(sweep.table())"]) + "\n"


def _images(images: Mapping[str, Any]) -> list[str]:
    """The images, or the pair, as the model sees them."""
    lines, corrupt = [f"images = {_image(images['clean'])}.as_seen_by(model)"], images.get("corrupt")
    if corrupt is None:
        return lines
    if "other" in corrupt:
        lines.append(f"other = {_image(corrupt['other'])}.as_seen_by(model)")
    if "corruption" not in corrupt:
        return [*lines, "images = images.paired_with(other)"]
    place = {name: corrupt[name] for name in ("region", "size") if name in corrupt}
    keywords = {"seed": corrupt["seed"], **place, **corrupt["settings"]}
    call = (
        f".corrupted({corrupt['corruption']!r}, {', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
    )
    if "other" not in corrupt:
        return [*lines, f"images = images{call}"]
    together = "wb.images([*images.images(), *other.images()]).as_seen_by(model)"
    return [*lines, f"images = {together}{call}.of([0])"]


def _image(image: Mapping[str, Any]) -> str:
    if "set" in image:
        pixels = f"wb.image_set({image['set']!r}).test.pixels[{image['number']}]"
        return f"wb.images([{pixels}.transpose(1, 2, 0)])"
    if "photo" in image:
        return f"wb.images([sklearn.datasets.load_sample_image({image['photo']!r})])"
    return f"wb.images([{upload_store.load_file(str(image['file']), 'an image')[0]!r}])"


def _edit(edit: Any) -> str:
    position = "" if edit.position is None else f", position={edit.position!r}"
    return f"wb.Edit({edit.site!r}, {edit.layer}, head={edit.head}{position}, kind={edit.kind!r})"
