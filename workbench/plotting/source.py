"""What a figure is of, wherever it ends up: model, prompt, head, task, edits and the workbench's version.

One line at the foot of every picture, with the prompt shortened; whole in the data: fields of JSON, and columns of CSV
files, each with one value. Columns, not comments or a line above the header: `pandas.read_csv` then reads a file as it
is, several files can be put together and told apart, and the numbers keep their places, because these columns are last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import full_name
from workbench.example_names import class_facts, image_facts, sample_facts
from workbench.io.tables import to_csv, with_places

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

#: Characters of a prompt in a picture, and of what was edited.
PROMPT, EDITED = 80, 400
#: Characters of a column of a CSV file: a thousand maps of a long prompt would have it fifty million times.
LARGEST_COLUMN = 4_000_000
#: The field, column and annotation that hold the version; the distribution's name.
VERSION, PACKAGE = "workbench", "attention-workbench"
#: Details of a diffusion model's results, and where their ``info`` has them.
_SAMPLING = {"sampler": "sampler", "steps": "sampler_steps", "guidance": "guidance", "readout": "readout"}
#: The name of the line in interactive figures.
ANNOTATION = "source"


@dataclass(frozen=True)
class Source:
    """What a figure is of; what is empty plays no part.

    Attributes:
        model: its name, with operators that were swapped in.
        prompt: the whole text.
        second: what it is compared with; model, prompt and head are then those of the first.
        version: of the workbench that computed it; by default this one.
        edited: what was edited and how, where the figure is an effect of edits.
        image: the name of an image, and the start of its hash.
        details: further facts with their names, such as those of a sample.

    >>> Source("tiny", "Then, Mary and John", "1.3", version="0.1").caption
    'tiny · head 1.3 · “Then, Mary and John” · attention-workbench 0.1'
    >>> Source("tiny", head="1.3", version="0.1").fields()
    {'model': 'tiny', 'head': '1.3', 'workbench': '0.1'}
    >>> Source("digits-dit", details=(("class", "3"), ("seed", "0")), version="0.1").caption
    'digits-dit · class 3, seed 0 · attention-workbench 0.1'
    """

    model: str = ""
    prompt: str = ""
    head: str = ""
    task: str = ""
    second: Source | None = None
    version: str = ""
    edited: str = ""
    image: str = ""
    details: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Source:
        """Of a result's ``info``: its model and task; of samples of a diffusion model their classes and seeds, and how
        they were made; of one image, or a pair, their names and hashes; of images the classes that metrics compare."""
        samples = sample_facts(info)
        named = (samples or image_facts(info) | class_facts(info)) | {
            name: info[key] for name, key in _SAMPLING.items() if info.get(key) is not None
        }
        details = tuple((name, str(fact)) for name, fact in named.items())
        name = full_name(info.get("model") or "", info.get("operators"))
        return cls(name, task="" if samples else str(info.get("task") or ""), details=details)

    @classmethod
    def of_run(cls, facts: Mapping[str, Any], task: str = "") -> Source:
        """Of a run's ``run.json``: its model, and the version that made it."""
        model, versions = facts.get("model"), facts.get("versions")
        named = model if isinstance(model, dict) else {"name": model or ""}
        version = versions.get(PACKAGE) if isinstance(versions, dict) else None
        operators = named.get("operators")
        by_layer = operators if isinstance(operators, dict) and all(str(at).isdecimal() for at in operators) else {}
        name = full_name(str(named.get("name", "")), by_layer)
        return cls(name, task=task, version=str(version or "of an unknown version"))

    @property
    def caption(self) -> str:
        """One line for a picture."""
        return f"{self._line} · {PACKAGE} {self._version}".removeprefix(" · ")

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        if self.second is None:
            return {**self._facts, VERSION: self._version}
        return {"first": self._facts, "second": self.second._facts, VERSION: self._version}

    def columns(self) -> dict[str, str]:
        """For CSV: the same, flat."""
        pairs = [("first_", self), ("second_", self.second)] if self.second is not None else [("", self)]
        facts = {f"{prefix}{name}": fact for prefix, side in pairs for name, fact in side._facts.items()}
        return {**facts, VERSION: self._version}

    def with_columns(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with `columns` after its own; a column that the table has already stays as it is. A prompt that would
        fill more than `LARGEST_COLUMN` characters in all is shortened."""
        columns = {name: fact for name, fact in self.columns().items() if name not in table.columns}
        return table.assign(
            **{
                name: fact if len(fact) * len(table) <= LARGEST_COLUMN else _short(fact)
                for name, fact in columns.items()
            }
        )

    def csv(self, table: pd.DataFrame, index: bool = False) -> bytes:
        """A table `with_columns` as a CSV file, with the layer and index of its heads (`workbench.io.tables`)."""
        return to_csv(self.with_columns(with_places(table)), index).encode()

    def annotate(self, figure: Figure) -> Figure:
        """A Plotly figure with `caption` at its foot, and `fields` as its ``layout.meta``."""
        from html import escape

        place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -78, "xanchor": "left", "yanchor": "top"}
        text = escape(self.caption, quote=False)
        figure.add_annotation(text=text, name=ANNOTATION, showarrow=False, font={"size": 10, "color": "#555"}, **place)
        figure.update_layout(meta=self.fields())
        return figure

    @property
    def _facts(self) -> dict[str, str]:
        facts = {"model": self.model, "prompt": self.prompt, "head": self.head, "task": self.task}
        facts |= {"edited": self.edited, "image": self.image, **dict(self.details)}
        return {name: fact for name, fact in facts.items() if fact}

    @property
    def _line(self) -> str:
        prompt = _short(" ".join(self.prompt.split()))
        edited = _short(" ".join(self.edited.split()), EDITED)
        details = ", ".join(f"{name} {fact}" for name, fact in self.details)
        head = self.head and f"head {self.head}"
        parts = (self.model, head, prompt and f"“{prompt}”", self.image, details, self.task, edited)
        line = " · ".join(filter(None, parts))
        return line if self.second is None else f"{line} − {self.second._line}"

    @property
    def _version(self) -> str:
        if self.version:
            return self.version
        import workbench

        return workbench.__version__


def _short(text: str, characters: int = PROMPT) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
