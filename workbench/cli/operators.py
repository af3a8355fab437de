"""``workbench operators [NAME]``: the attention operators, one of them, or what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from workbench.cli.answer import Answer, AsJson, table
from workbench.cli.choices import check_name
from workbench.errors import UsageError, WorkbenchError
from workbench.io.tables import number
from workbench.registry import OPERATORS, BrokenEntry

#: The default model's heads, key/value heads and width of a head.
HEADS, KV_HEADS, WIDTH = 9, 3, 64
LENGTHS = (1024, 4096)
#: `Operator.matrix_axis`, `Operator.causal` and `Operator.row_stochastic`, in words.
MATRIX = {"head": "one a head", "channel": "one a channel", "two": "two in a row", "none": "none"}
CAUSAL = {
    "model": "as the model",
    "token": "by token",
    "block": "by block: a position sees all of its block",
    "mask": "by token, but later positions may change what is selected",
    "no": "no",
}
ROWS = {True: "sum to one", False: "any"}
LEGEND = (
    "matrix: an A with z = A v for each head or channel, two in a row, or none. causal: as the model is; by token; by "
    "block, all of which a position sees; mask: by token, but later positions may change what is selected; no. rows: "
    "whether those of A sum to one. by settings: workbench operators NAME says it for the settings that you give."
)


def operators(
    name: Annotated[
        str | None, typer.Argument(help="An operator, also with settings: 'sliding-window(window=32)'.")
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Print what it costs, by length.")] = False,
    length: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="With --cost: positions; may be repeated (default: 1024 and 4096)."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option(metavar="H", min=1, help=f"With --cost: heads (default: {HEADS}).")
    ] = None,
    kv_heads: Annotated[
        int | None,
        typer.Option("--kv-heads", metavar="H", min=1, help=f"With --cost: key/value heads (default: {KV_HEADS})."),
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="D", min=1, help=f"With --cost: width of a head (default: {WIDTH}).")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --cost: time one thread, and take the peak memory.")
    ] = False,
    as_json: AsJson = False,
) -> Answer:
    """List the attention operators, describe one, or print what they cost."""
    options = {"--length": length, "--heads": heads, "--kv-heads": kv_heads, "--width": width, "--measure": measure}
    if not cost and (useless := [option for option, value in options.items() if value]):
        raise UsageError(f"{useless[0]} is only for --cost. Give --cost, or leave it out.")
    if name is not None:
        check_name("operator", name.partition("(")[0].strip(), OPERATORS.names(), "See workbench operators.")
    if cost:
        kv = kv_heads if kv_heads is not None else KV_HEADS if heads is None else heads
        sizes = {"n_heads": heads or HEADS, "n_kv_heads": kv, "d_head": width or WIDTH}
        if sizes["n_heads"] % kv:
            raise UsageError(f"--kv-heads {kv}: expected a number that divides the {sizes['n_heads']} heads.")
        return _costs(name, tuple(length or LENGTHS), sizes, measure)
    return _list() if name is None else _one(name)


# --- the list


def _list() -> Answer:
    from workbench.attention.declared import declared

    rows, broken = [], []
    for name in OPERATORS.names():
        try:
            rows.append({"name": name, "title": OPERATORS.summary(name).replace("``", ""), **declared(name)})
        except (BrokenEntry, SyntaxError) as error:
            broken.append({"name": name, "reason": str(error)})

    def show(console: Any) -> None:
        cells = [
            (
                row["name"],
                row["status"],
                row["role"],
                row["matrix_axis"],
                row["causal"],
                ROWS.get(row["row_stochastic"], row["row_stochastic"]),
                _listed(row["needs"]),
                row["title"],
            )
            for row in rows
        ]
        console.print(table(("name", "status", "role", "matrix", "causal", "rows", "needs", ""), cells))
        console.print(LEGEND)
        for entry in broken:
            console.print(entry["reason"])
        console.print("Swap one in:  workbench patch --task ioi --operator 10-19=lightning")

    return Answer({"operators": rows, "broken": broken}, show, 3 if broken else 0)


def _listed(words: Any) -> str:
    return words if isinstance(words, str) else ", ".join(words) or "–"


# --- one operator


def _one(text: str) -> Answer:
    from workbench.attention.cost.forms import form
    from workbench.attention.describe import described, description
    from workbench.attention.operator import operator

    bound = operator(text)
    facts, words, cost = described(bound), description(bound.operator.name), form(bound.operator.form)
    passes = {
        "passes": cost.passes,
        "passes_to_select": cost.passes_to_select,
        "passes_as_written": cost.passes_as_written,
    }
    document = {**facts, "description": words, **passes}

    def show(console: Any) -> None:
        console.print(f"{bound}\n\n{words}\n")
        lines: dict[str, object] = {
            "source": facts["source"],
            "status": facts["status"],
            **{"chosen" if i == 0 else " " * i: choice for i, choice in enumerate(facts["choices"])},
            "role": facts["role"],
            "matrix": MATRIX[facts["matrix_axis"]],
            "causal": CAUSAL[facts["causal"]],
            "rows": ROWS[facts["row_stochastic"]],
            "linear in v": _yes(facts["linear_in_v"]),
            "heads independent": _yes(facts["heads_independent"]),
            "needs": _listed(facts["needs"]),
            "does not read": _listed(facts["ignores"]),
            "invents in a swap": facts["invents"] or "nothing",
            "records": _listed(facts["records"]),
            "resumes from": {"keys": "keys and values", "state": "its state", "no": "nothing: full forwards"}[
                facts["resumes"]
            ],
            "check length": f"{facts['check_length']} positions",
            "passes over the keys": f"{cost.passes} ({cost.passes_as_written} as written; {cost.title})",
        }
        console.print(table(("", " "), list(lines.items())))
        rows = [(s["name"], s["value"], s["default"], s["expected"], s["what"]) for s in facts["settings"]]
        console.print(
            table(("setting", "value", "default", "what it may be", ""), rows) if rows else "It has no settings."
        )

    return Answer(document, show)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- what they cost


def _costs(name: str | None, lengths: Sequence[int], sizes: Mapping[str, int], measured: bool) -> Answer:
    from workbench.attention.cost.of_operator import operator_cost
    from workbench.attention.operator import operator

    rows, missing = [], []
    for each in OPERATORS.names() if name is None else [name]:
        for length in lengths:
            try:
                rows += operator_cost(operator(each), length, **sizes, measured=measured)
            except WorkbenchError as error:
                if name is not None:
                    raise
                missing.append({"operator": each, "length": length, "reason": str(error)})

    def show(console: Any) -> None:
        columns = ("operator", "length", "passes", "to select", "pairs", "FLOPs", "bytes moved", "state")
        columns += ("CPU time", "peak memory") if measured else ()
        cells = [
            (
                row["operator"],
                row["length"],
                row["passes"],
                row["passes_to_select"] or None,
                "≤ " * row["at_most"] + str(_scaled(row["pairs"]) or "–"),
                "≤ " * row["at_most"] + str(_scaled(row["flops"])),
                _scaled(row["bytes_moved"], "B"),
                _scaled(row["state_bytes"], "B"),
                *((_seconds(row["seconds"]), _scaled(row["peak_bytes"], "B")) if measured else ()),
            )
            for row in rows
        ]
        console.print(table(columns, cells, right=columns[1:]))
        console.print(
            f"One layer of {sizes['n_heads']} heads ({sizes['n_kv_heads']} of keys and values) of width "
            f"{sizes['d_head']}, one input in float32. pairs: of a query and a key, of one head. FLOPs: without "
            "projections. ≤: as if it selected all. state: what is kept to continue."
        )
        for row in [*missing, *({**row, "reason": row["not_measured"]} for row in rows if "not_measured" in row)]:
            console.print(f"{row['operator']} at {row['length']}: {row['reason']}")

    document = {**sizes, "rows": rows, "missing": missing}
    return Answer(document, show)


def _scaled(value: float | None, unit: str = "") -> str | None:
    """``1.23 M``: three significant figures."""
    if value is None:
        return None
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{number(value / factor)} {letter}{unit}"
    return f"{value:g} {unit}".strip()


def _seconds(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{number(value)} s" if value >= 1 else f"{number(1000 * value)} ms"
