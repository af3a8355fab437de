"""The pattern scores of all heads on one prompt, and the explorer's whole first look, against one plain forward."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.subject import PROMPTS, Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns

#: Tokens → what the scores and the whole first look may cost, in plain forwards.
BARS = {1024: (Bar(2.0, "≤"), Bar(2.5, "≤")), 4096: (Bar(2.5, "≤"), Bar(2.5, "≤"))}
#: Gigabytes over the loaded model, at 4,096 tokens.
MEMORY = Bar(0.7, "≤")
ROUNDS = 3
PROC = Path("/proc/self")


def run(subject: Subject, settings: Settings) -> list[Result]:
    lengths = (128,) if settings.quick else tuple(BARS)
    times = [cost(subject, settings, length) for length in lengths]
    return [*times, memory(settings, lengths[-1])]


def cost(subject: Subject, settings: Settings, length: int) -> Result:
    """CPU seconds of this process, all its threads together."""
    model, prompts = subject.model, texts(subject.model, length)
    rounds = 1 if length > 2000 else min(settings.rounds, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            "forward": cpu_seconds(lambda: forward(model, next(prompts))),
            "scores": cpu_seconds(lambda: scores(model, next(prompts))),
            "record": cpu_seconds(lambda: record(model, next(prompts), folder)),
        }
        record(model, next(prompts)[:64], folder)  # the model's weights are hashed once
        measured = in_turns(contestants, rounds, f"prompt of {length} tokens")
    of_scores, of_record = BARS.get(length, (None, None))
    rows = [Row("one plain forward", median(measured["forward"]))]
    for name, what, bar in (
        ("scores", "every pattern score of all heads", of_scores),
        ("record", "the first look, with what it stores", of_record),
    ):
        ratio = Ratio.within_rounds(measured[name], measured["forward"], "a forward")
        rows.append(Row(what, median(measured[name]), ratio=ratio, bar=bar))
    heads = f"{model.n_layers * model.n_heads} heads"
    notes = ["CPU seconds. Forwards included; the scores' values need maps of 128 positions for similarity, too."]
    return Result(f"prompt-{length}", f"A prompt of {length:,} tokens on {heads}", rows, notes, measured)


def memory(settings: Settings, length: int) -> Result:
    """Peak resident memory, each in a process of its own."""
    title = f"Peak memory over the loaded model, {length:,} tokens"
    if not (PROC / "clear_refs").exists():
        return Result("prompt-memory", title, [], ["Not measured: that needs Linux's /proc/self/clear_refs."])
    rows, rounds = [], {}
    for name, what in (
        ("forward", "one plain forward"),
        ("scores", "every pattern score"),
        ("record", "the first look"),
    ):
        command = [sys.executable, "-m", __name__, settings.model, name, str(length)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        gigabytes = json.loads(done.stdout.splitlines()[-1])
        over = gigabytes["peak"] - gigabytes["loaded"]
        rows.append(Row(what, over, "GB", bar=None if name == "forward" or length != 4096 else MEMORY))
        rounds[name] = [over]
    return Result("prompt-memory", title, rows, [], rounds)


def texts(model: Any, length: int) -> Iterator[Tensor]:
    """Prompts of so many tokens, all different: real text from a moving start, repeated where it is too short."""
    lines = "".join(path.read_text() for path in sorted(PROMPTS.parents[2].glob("docs/*.md")))
    ids = model.to_tokens(lines)[0]
    ids, start = ids.repeat(-(-2 * length // len(ids))), 0
    while True:
        yield ids[start : start + length]
        start = (start + 7) % length


def forward(model: Any, ids: Tensor) -> None:
    with torch.no_grad():
        model.hf(ids[None], use_cache=False, logits_to_keep=1)


def scores(model: Any, ids: Tensor) -> None:
    from app.heads.record_scores import PromptScores
    from workbench.models.in_forward import each_layer

    scorer = PromptScores(ids)
    each_layer(model, ids[None], scorer.see)
    scorer.scores()


def record(model: Any, ids: Tensor, folder: str) -> None:
    from app.heads.prompt_record import PromptRecord

    PromptRecord(model, ids.tolist(), cache=folder)


def cpu_seconds(work: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return seconds


def measure(model_name: str, what: str, length: int) -> dict[str, float]:
    """Resident gigabytes after loading and a short prompt, and at the peak of a long one; in this process."""
    import workbench

    model = workbench.load(model_name)
    prompts = texts(model, length)
    with tempfile.TemporaryDirectory() as folder:
        works = {"forward": forward, "scores": scores, "record": lambda model, ids: record(model, ids, folder)}
        works[what](model, next(prompts)[:64])
        loaded = _status("VmRSS")
        (PROC / "clear_refs").write_text("5")  # the peak starts again from here
        works[what](model, next(prompts))
        return {"loaded": loaded, "peak": _status("VmHWM")}


def _status(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", (PROC / "status").read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{PROC / 'status'} has no line {name}.")
    return int(match[1]) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
