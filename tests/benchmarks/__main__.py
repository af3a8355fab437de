"""``python -m tests.benchmarks [NAME…] [--quick] [--json FILE]``: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
#: Cheap ones first.
NAMES = (
    "cli",
    "load",
    "start",
    "record",
    "path",
    "sweep",
    "positions",
    "screen",
    "scores",
    "prompt",
    "memory",
    "memory_rules",
    "explorer",
    "cache",
    "diffusion",
    "images",
    "operators_linear",
    "operators_swap",
    "operators_sparse",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones; all by default: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="one round of little, to see that it runs")
    parser.add_argument("--rounds", type=int, help="rounds of which the median is taken (5)")
    parser.add_argument("--cells", type=int, help="cells of each rival timed in a round (30)")
    parser.add_argument("--model", help="another Llama-like model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    os.environ.setdefault("TQDM_DISABLE", "1")  # TransformerLens's bars; ours are the lines on stderr

    from tests.benchmarks.subject import MODEL, Settings, Subject
    from tests.benchmarks.timing import machine

    settings = Settings(
        model=options.model or MODEL,
        rounds=options.rounds or (1 if options.quick else 5),
        cells=options.cells or (6 if options.quick else 30),
        prompts=2 if options.quick else None,
        quick=options.quick,
    )
    subject, info = Subject.named(settings.model), machine()
    print(f"{info['processor']}, {info['cores']} cores, {info['threads']} threads, load {info['load_average'][0]}")
    versions = ", ".join(f"{name} {number}" for name, number in info["versions"].items())
    print(f"{versions} · {settings.model}, float32", flush=True)
    if settings.quick:
        print("Quick run: these figures mean nothing.")
    results = []
    for name in options.names or NAMES:
        for result in importlib.import_module(f"tests.benchmarks.bench_{name}").run(subject, settings):
            results.append(result.as_json())
            print(f"\n{result}", flush=True)
    if options.json:
        report = {"machine": info, "settings": vars(settings), "results": results}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
