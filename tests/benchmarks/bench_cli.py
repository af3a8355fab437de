"""How long ``workbench --help`` takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Result, Row, in_turns, seconds_of

BAR = Bar(0.5, "≤")
TURNS = 3


def run(subject: Subject | None, settings: Settings) -> list[Result]:
    commands = {"workbench --help": ["-m", "workbench", "--help"], "python alone": ["-c", "pass"]}

    def call(arguments: list[str]) -> float:
        return seconds_of(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))

    for arguments in commands.values():
        call(arguments)  # compiles what was not compiled yet
    measured = in_turns(
        {name: lambda arguments=arguments: call(arguments) for name, arguments in commands.items()},
        settings.rounds * (1 if settings.quick else TURNS),
        "cli",
    )
    rows = [
        Row("workbench --help", median(measured["workbench --help"]), bar=BAR),
        Row("python -c pass", median(measured["python alone"])),
    ]
    return [Result("cli", "The command's help, as a new process", rows, [], measured)]
