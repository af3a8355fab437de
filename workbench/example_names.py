"""What the examples of a result are called, from what it reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Characters of an image's hash.
HASH = 12


def examples_of(info: Mapping[str, Any]) -> str:
    """Prompts, images, or samples of a diffusion model; of another modality examples."""
    if "sampler" in info:
        return "samples"
    if "inputs" not in info:
        return "prompts"
    return "images" if "processor" in info["inputs"] else "examples"


def task_of(info: Mapping[str, Any]) -> str:
    """The task's name; of samples what they are of: ``"class 3, other class 8, seed 0 to 7"``; of one image, or a pair,
    their names."""
    if image_facts(info):
        (run,) = info["inputs"]["examples"]
        return " and ".join(dict.fromkeys(run[side]["name"] for side in ("clean", "corrupt")))
    facts = sample_facts(info)
    return ", ".join(f"{name} {fact}" for name, fact in facts.items()) or str(info.get("task") or "")


def sample_facts(info: Mapping[str, Any]) -> dict[str, str]:
    """Classes and seeds of samples that `workbench.latents` made; empty for other inputs.

    >>> runs = [{"clean": {"class": "3", "seed": i}, "corrupt": {"class": "8", "seed": i}} for i in range(4)]
    >>> sample_facts({"sampler": "euler", "inputs": {"examples": runs}})
    {'class': '3', 'other class': '8', 'seed': '0 to 3'}
    """
    runs = info.get("inputs", {}).get("examples", ()) if "sampler" in info else ()
    if not runs or not all("class" in run[side] and "seed" in run[side] for run in runs for side in run):
        return {}
    sides = ("clean", "corrupt")
    classes, seeds = ([[run[side][fact] for run in runs] for side in sides] for fact in ("class", "seed"))
    facts = {"class": _classes(classes[0])}
    if classes[1] != classes[0]:
        facts["other class"] = _classes(classes[1])
    facts["seed"] = _seeds(seeds[0])
    if seeds[1] != seeds[0]:
        facts["other seed"] = _seeds(seeds[1])
    return facts


def image_facts(info: Mapping[str, Any]) -> dict[str, str]:
    """The image of a result of one image, and the other one of its pair, by name and hash; empty of several images.

    >>> clean, corrupt = {"name": "a.png", "sha256": "0123456789abcdef"}, {"name": "b.png", "sha256": "f" * 64}
    >>> image_facts({"inputs": {"examples": [{"clean": clean, "corrupt": corrupt}]}})
    {'image': 'a.png (SHA-256 0123456789ab…)', 'other image': 'b.png (SHA-256 ffffffffffff…)'}
    """
    runs = info.get("inputs", {}).get("examples", ())
    if len(runs) != 1 or not all({"name", "sha256"} <= set(side) for side in runs[0].values()):
        return {}
    clean, corrupt = (named_image(run["name"], run["sha256"]) for run in (runs[0]["clean"], runs[0]["corrupt"]))
    return {"image": clean, **({"other image": corrupt} if corrupt != clean else {})}


def class_facts(info: Mapping[str, Any]) -> dict[str, str]:
    """The classes of images that a metric compares, each once: the right ones and the wrong ones. Which image has which
    is in ``info["inputs"]["examples"]``.

    >>> runs = [{"clean": {"answer": ["7"], "wrong": [wrong]}, "corrupt": {}} for wrong in "131"]
    >>> class_facts({"inputs": {"examples": runs}})
    {'answer': '7', 'wrong answer': '1, 3'}
    """
    runs = info.get("inputs", {}).get("examples", ())
    every = {"answer": "answer", "wrong answer": "wrong"}
    facts = {name: [x for run in runs for x in run.get("clean", {}).get(key, ())] for name, key in every.items()}
    return {name: _classes(names) for name, names in facts.items() if names}


def named_image(name: str, sha256: str) -> str:
    """An image as downloads name it."""
    return f"{name} (SHA-256 {sha256[:HASH]}…)"


def _classes(names: Iterable[str | None]) -> str:
    return ", ".join("none" if name is None else name for name in dict.fromkeys(names))


def _seeds(seeds: Sequence[int]) -> str:
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 1 and list(seeds) == list(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, seeds))
