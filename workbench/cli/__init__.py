"""The command ``workbench``, one file a verb.

Nothing here imports torch or pandas before a verb needs it, so that ``--help`` answers at once.

Exit codes: 0 done (a finding supported, undecided or not judged), 1 not supported, 2 usage, 3 bad or untrusted input,
4 not run, 70 an internal error, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from workbench import __version__
from workbench.cli import (
    cache,
    doctor,
    explore,
    findings,
    memory,
    models,
    notes,
    operators,
    patch,
    record,
    reproduce,
    runs,
    scores,
    tasks,
    train,
)
from workbench.cli.answer import Answer, NotRun, console, write_json
from workbench.errors import WorkbenchError

BAD_INPUT, INTERNAL, INTERRUPTED, BROKEN_PIPE, TERMINATED = 3, 70, 130, 141, 143

app = typer.Typer(
    name="workbench",
    help="Record, patch and compare attention heads.",
    epilog="Exit codes: 0 done, 1 claim not supported, 2 usage error, 3 bad or untrusted input, 4 not run, "
    "70 internal error, 130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's Markdown parser alone takes a quarter of a second to import
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.verbs, name="models")
app.command("tasks")(tasks.tasks)
app.command("findings")(findings.findings)
app.command("operators")(operators.operators)
app.command("memory")(memory.memory)
app.command("patch")(patch.patch)
app.command("record")(record.record)
app.command("scores")(scores.scores)
app.command("notes")(notes.notes)
app.command("reproduce")(reproduce.reproduce)
app.command("train")(train.train)
app.add_typer(runs.verbs, name="runs")
app.add_typer(cache.verbs, name="cache")
app.command("explore")(explore.explore)
app.command("doctor")(doctor.doctor)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"workbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Every error is one line on stderr (with ``--json`` also the one
    object on stdout); ``WORKBENCH_DEBUG=1`` shows the traceback of an unexpected one."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json = "--json" in arguments and not {"-h", "--help"} & set(arguments)
    out = sys.stdout
    if sys.stderr is None:  # closed by the caller
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if out is None:
        print("workbench: standard output is closed, so there is nowhere to print the answer.", file=sys.stderr)
        return BAD_INPUT
    warnings.formatwarning = lambda message, *_, **__: f"workbench: {message}\n"  # one line, without our source
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # leaves through every clean-up
    try:
        # Under --json whatever else is printed on the way goes to stderr: stdout holds the one object.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            answer = app(arguments, prog_name="workbench", standalone_mode=False)
        if answer == INTERRUPTED:
            raise KeyboardInterrupt
        if not isinstance(answer, Answer):
            return answer if isinstance(answer, int) else 0
        if as_json:
            write_json(answer.document, out)
        else:
            answer.show(console(out))
        out.flush()
        return answer.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # so that the interpreter's last flush is silent
        return BROKEN_PIPE
    except OSError as error:
        return _fail(error, _describe(error), BAD_INPUT, as_json, out)
    except (KeyboardInterrupt, Abort) as error:
        return _fail(error, "interrupted.", INTERRUPTED, as_json, out)
    except (WorkbenchError, TyperException) as error:
        return _fail(error, _message(error), error.exit_code, as_json, out)
    except Exception as error:
        if os.environ.get("WORKBENCH_DEBUG") == "1":
            raise
        hint = "WORKBENCH_DEBUG=1 shows the traceback; please report it"
        text = f"unexpected {type(error).__name__}: {_message(error)} ({hint})"
        return _fail(error, text, INTERNAL, as_json, out)


def _message(error: Exception) -> str:
    if not isinstance(error, TyperException):
        return str(error).strip()
    text, context = error.format_message().strip(), getattr(error, "ctx", None)
    stop = "" if text.endswith((".", "?", ")")) else "."
    return f"{text}{stop} '{getattr(context, 'command_path', 'workbench')} --help' shows the usage."


def _describe(error: OSError) -> str:
    """What the system refused, and of what."""
    path = f"{error.filename}: " if error.filename else ""
    return f"{path}{error.strerror or error}."


def _fail(error: BaseException, text: str, code: int, as_json: bool, out: Any) -> int:
    print(f"workbench: {text}", file=sys.stderr)
    document: Mapping[str, Any] = error.document if isinstance(error, NotRun) else {}
    try:
        if as_json:
            write_json({**document, "error": {"kind": type(error).__name__, "message": text, "exit_code": code}}, out)
        out.flush()
    except (OSError, AttributeError):  # stdout is full, or closed
        if out is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # so that the interpreter's last flush is silent
    return code
