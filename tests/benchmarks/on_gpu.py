"""``python -m tests.benchmarks.on_gpu [PART…] [--out FOLDER] [--device cpu --quick]``: everything that only a CUDA
device can show, in one run of less than ten minutes.

What operators, kernels, sweeps and statistics compute there is compared with float64 and with the CPU; times are ratios
within the run. Each line is printed as it comes, and ``on_gpu.json`` in the folder (``$OUT``, or the current one) has
them all. Exit code 0: all is as it should be; 1: a line is not; 4: there is no CUDA device, and nothing was run.

``--device cpu --quick`` goes through the same code with little to do: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

#: Seconds after which no further part is begun; one takes a minute or two.
BUDGET = 420


def main(arguments: list[str] | None = None) -> int:
    import torch

    from tests.benchmarks.gpu_parts import PARTS, Line, Scale
    from workbench.errors import NotAvailable

    parser = argparse.ArgumentParser("python -m tests.benchmarks.on_gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which ones; all by default: {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda", help="cuda; cpu, with --quick, tries the script")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), metavar="FOLDER")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("on_gpu: no CUDA device, so nothing was run (--device cpu --quick tries the script).", file=sys.stderr)
        return NotAvailable.exit_code
    report: dict[str, Any] = {"machine": machine(device), "quick": options.quick, "parts": {}}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)
    if options.quick:
        print("Quick run: these figures mean nothing.")
    start, well = time.perf_counter(), True
    for name in options.parts or PARTS:
        lines: list[Line] = []
        began = time.perf_counter()
        print(f"\n== {name}", flush=True)
        try:
            if began - start > BUDGET:
                lines.append(Line(name, None, not_run="no time is left"))
                print(_text(lines[-1]), flush=True)
            else:
                with torch.no_grad():
                    for line in PARTS[name](Scale(device, options.quick)):
                        lines.append(line)
                        print(_text(line), flush=True)
        except Exception:  # the other parts are worth having
            traceback.print_exc()
            lines.append(Line(name, float("inf"), limit=0, not_run=traceback.format_exc(limit=-1).splitlines()[-1]))
        well &= all(line.met is not False for line in lines)
        report["parts"][name] = {
            "seconds": time.perf_counter() - began,
            "lines": [asdict(line) | {"met": line.met} for line in lines],
        }
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=1, ensure_ascii=False)
        (options.out / "on_gpu.json").write_text(text + "\n", encoding="utf-8")
    print("\nAll limits are met." if well else "\nNOT all limits are met.")
    return 0 if well else 1


def machine(device: Any) -> dict[str, str]:
    """What the figures are measured on."""
    import torch
    import transformers

    from workbench.attention import gpu_kernels

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, **gpu_kernels.versions()}
    return {"device": name, **versions}


def _text(line: Any) -> str:
    if line.value is None or line.not_run:
        return f"{line.what}: not run ({line.not_run})"
    limit = "" if line.limit is None else f"  ≤ {line.limit:.3g}: {'met' if line.met else 'NOT MET'}"
    return f"{line.what}: {line.value:.3g} {line.unit}".rstrip() + limit


if __name__ == "__main__":
    sys.exit(main())
