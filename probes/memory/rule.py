"""`Rule`: how a memory writes pairs and how it is read.

Shapes everywhere: keys and queries ``[trial, pair, d_key]``, values ``[trial, pair, d_value]``. Trials are independent
memories that are computed together. Pairs are written in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from workbench.attention.settings import Setting, complete, written

from .laws import Law

Settings = Mapping[str, Any]
State = tuple[Tensor, ...]
Write = Callable[[State | None, Tensor, Tensor, Settings], State]
Read = Callable[[State, Tensor, Settings], Tensor]

#: The setting that chooses among a rule's `presets`.
PRESET = "preset"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of writing and reading.

    Attributes:
        name: that of its file.
        title: what figures call it.
        source: the paper or repository.
        write: ``write(state or None, k, v, settings) -> state``.
        read: ``read(state, q, settings) -> values``.
        settings: by name, as those of attention operators.
        presets: sets of defaults by name, the first of which is the rule's own; the setting ``preset`` chooses.
        linear_in_v: whether what is read is linear in the values; a function of the settings where it depends on them.
        operator: ``operator(settings) -> text``: the attention operator with the same arithmetic, as `wb.swap` takes
            it; empty, or None, where there is none.
        laws: closed forms by criterion.
        note: ``note(settings) -> text``: what a figure has to say of these settings; empty for nothing.
        check: ``check(settings) -> None`` raises `UsageError` where settings do not go together.
    """

    name: str
    title: str
    source: str
    write: Write
    read: Read
    settings: Mapping[str, Setting] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    linear_in_v: Callable[[Settings], bool] = lambda _: True
    operator: Callable[[Settings], str] | None = None
    laws: Mapping[str, Law] = field(default_factory=dict)
    note: Callable[[Settings], str] = lambda _: ""
    check: Callable[[Settings], None] = lambda _: None

    @property
    def all_settings(self) -> dict[str, Setting]:
        """Its settings, and ``preset`` where it has several."""
        if not self.presets:
            return dict(self.settings)
        names = tuple(self.presets)
        return {PRESET: Setting(names[0], "word", "where the other defaults come from", choices=names), **self.settings}

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting: the values, checked, and the defaults of the others, which are those of the preset.

        Raises:
            UnknownName: a setting that the rule does not have.
            UsageError: a value that is not possible.
        """
        defaults: Mapping[str, Any] = {}
        if self.presets:
            choice = self.all_settings[PRESET]
            defaults = self.presets[choice.check(f"{self.name}({PRESET})", values.get(PRESET, choice.default))]
        settings = complete(self.name, self.all_settings, {**defaults, **values})
        self.check(settings)
        return settings

    def text(self, settings: Settings) -> str:
        """What a user types for it: ``delta(beta=0.5)``."""
        defaults = self.complete({PRESET: settings[PRESET]} if self.presets else {})
        stated = {
            name: setting if name == PRESET else Setting(defaults[name], setting.kind, setting.what)
            for name, setting in self.all_settings.items()
        }
        return written(self.name, settings, stated)


def read_matrix(state: State, q: Float[Tensor, "trial query d_key"], settings: Settings) -> Tensor:
    """``W q`` of a memory whose state is ``(W,)``, ``[trial, d_value, d_key]``."""
    return q @ state[0].mT
