"""How far a long call has come, told to whoever asked."""

from __future__ import annotations

from collections.abc import Callable

from workbench import arguments

#: ``progress(done, total, what)``.
Progress = Callable[[int, int, str], None]


class ProgressCounter:
    """Counts what is done of `total` and tells `progress`, if there is one."""

    def __init__(self, total: int, what: str, progress: Progress | None) -> None:
        self.done, self.total, self.what = 0, total, what
        self.progress = arguments.function("progress", progress)

    def __call__(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total, self.what)
