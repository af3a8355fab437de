"""``python -m workbench.testing task NAME``: check a task, metric, finding, operator or model; prints what is
wrong, or that nothing is."""

from __future__ import annotations

import sys

from workbench import testing
from workbench.errors import WorkbenchError

CHECKS = {
    "task": testing.check_task,
    "metric": testing.check_metric,
    "finding": testing.check_finding,
    "operator": testing.check_operator,
    "model": testing.check_model,
}


def main(arguments: list[str]) -> int:
    """The exit code: 0 where every check passes, 1 where one fails, 2 for wrong arguments."""
    if len(arguments) != 2 or arguments[0] not in CHECKS:
        print(f"Usage: python -m workbench.testing {{{','.join(CHECKS)}}} NAME", file=sys.stderr)
        return 2
    kind, name = arguments
    try:
        if kind == "model":
            import workbench as wb

            CHECKS[kind](wb.load(name))
        else:
            CHECKS[kind](name)
    except AssertionError as problems:
        print(problems, file=sys.stderr)
        return 1
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"The {kind} {name!r} passes its checks.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
