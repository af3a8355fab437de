"""The columns of the table: each compares the workbench with plain hooks on one tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import workbench as wb
from tests.families.cell import Cell, Comparison, Wrong, workbench_call
from tests.families.configurations import Configuration
from tests.families.paths import paths
from tests.families.scoring import attributions, scores
from tests.families.subject import GATED_Z, Subject, measured, rows_of, some_of
from tests.families.tiny import NoTinyModel, one_line, tiny_model

HEAD_SITES = ("z", "q", "k", "v", "pattern")
#: Every how many-eth cell of a sweep by position is compared.
EVERY_POSITION = 5
#: In half precision our edits may be that many times as far from full forwards as half precision is from float32.
HALF_ERRORS = 3.0


def wraps(subject: Subject) -> Cell:
    """Whether the model is accepted, and what is said about it."""
    _ = subject.model
    return Cell("exact", " ".join(subject.warnings))


def bit_identical(subject: Subject) -> Cell:
    """Logits without hooks are Hugging Face's, bit for bit."""
    for ids in subject.inputs.clean:
        with workbench_call():
            own = subject.model(ids[None])
        oracle = subject.plain.all_logits(ids)
        if not torch.equal(own, oracle):
            return Cell("wrong", "logits differ", float((own - oracle).abs().max()))
    return Cell("exact", difference=0.0)


# --- activations ------------------------------------------------------------------------------------------------------


def _recorded(subject: Subject, *sites: str) -> Cell:
    plain, comparison = subject.plain, Comparison(relative=True)
    with workbench_call():
        recording = wb.record(subject.model, subject.inputs, list(sites), cache=False)
        runs: Any = [recording.clean, recording.corrupt]
        own = [{site: run[site][i] for site in sites} for i in range(len(subject.inputs)) for run in runs]
    prompts = [ids for pair in zip(subject.inputs.clean, subject.inputs.corrupt, strict=True) for ids in pair]
    for ids, activations in zip(prompts, own, strict=True):
        for site in sites:
            read = "z" if site == GATED_Z else subject.plain_site(site)
            for layer, oracle in zip(plain.layers, plain.read(ids, read, *plain.layers), strict=True):
                value = activations[site][
                    layer if len(activations[site]) == plain.n_layers else plain.layers.index(layer)
                ]
                comparison.add(value, oracle.transpose(0, 1) if site == "pattern" else oracle)
    cell = comparison.cell()
    if cell.state == "wrong" and sites == ("z",) and not subject.is_gated:
        at_attention = _before_the_projection(subject, [x["z"] for x in own], prompts)
        text = "it is what attention gives, before a gate or a norm" if at_attention < 1e-4 else ""
        return Cell("wrong", text, cell.difference, cell.effect)
    return cell


def _before_the_projection(subject: Subject, own: list[Any], prompts: list[Any]) -> float:
    """How far z is from the attention function's own output, where it is not the projection's input."""
    comparison = Comparison(relative=True)
    for ids, z in zip(prompts, own, strict=True):
        for row, oracle in enumerate(subject.plain.read(ids, "attention", *subject.plain.layers)):
            comparison.add(z[row], oracle)
    return comparison.difference


def z(subject: Subject) -> Cell:
    """z is the output projection's input; of a model that has a hook point behind a gate, that one is."""
    return _recorded(subject, "z", *([GATED_Z] if subject.is_gated else []))


def pattern(subject: Subject) -> Cell:
    """The pattern is what eager attention gives with ``output_attentions``."""
    return _recorded(subject, "pattern")


def qkv(subject: Subject) -> Cell:
    """q, k and v are what the model file's eager function is given."""
    return _recorded(subject, "q", "k", "v")


# --- sweeps -----------------------------------------------------------------------------------------------------------


def _copied(source: Any, head: int | None, position: int | None) -> Callable[[Any], object]:
    """A change that takes over one head's or one position's values of another run."""
    index = (slice(None) if position is None else position, *(() if head is None else (head,)))
    return lambda x: x[index].copy_(source[index])


def _swept(subject: Subject, site: str, by: list[str], examples: list[int], every: int = 1) -> Cell:
    """A sweep that patches clean values into the corrupt run, cell by cell."""
    plain, inputs = subject.plain, subject.inputs
    positions = "all" if "position" in by else None
    with workbench_call():
        result = wb.sweep(subject.model, some_of(inputs, examples), site=site, by=by, positions=positions, cache=False)
    comparison, count = Comparison(), 0
    heads = dict(zip(result.axes, result.values.shape, strict=False))
    layers = plain.layers if site in HEAD_SITES else list(range(plain.n_layers))
    rows = rows_of(result, layers)
    for column, example in enumerate(examples):
        clean, corrupt = inputs.clean[example], inputs.corrupt[example]
        base = subject.plain_score(corrupt, example)
        comparison.add(result.base[column], base, base)
        plain_site = subject.plain_site(site)
        sources = plain.read(clean, plain_site, *layers)
        for row, layer, source in zip(rows, layers, sources, strict=True):
            if "head" in by and (swept := heads.get("head", heads.get("kv_head"))) != source.shape[1]:
                raise Wrong(f"{swept} heads are swept where attention has {source.shape[1]}")
            for head in range(source.shape[1]) if "head" in by else [None]:
                for position in range(len(clean)) if "position" in by else [None]:
                    count += 1
                    if count % every:
                        continue
                    change = _copied(source, head, position)
                    oracle = subject.plain_score(corrupt, example, {(plain_site, layer): change})
                    index = tuple(i for i in (row, head, position) if i is not None)
                    comparison.add(result.values[(*index, column)], oracle, base)
    return comparison.cell()


def sweep_heads(subject: Subject) -> Cell:
    """Every head's z, patched from the clean run, of two pairs."""
    return _swept(subject, "z", ["head"], [0, 1])


def sweep_heads_positions(subject: Subject) -> Cell:
    """Every fifth cell of z by head and position, of one pair of the longer length."""
    return _swept(subject, "z", ["head", "position"], [1], EVERY_POSITION)


def _site_sweep(site: str) -> Callable[[Subject], Cell]:
    def column(subject: Subject) -> Cell:
        return _swept(subject, site, ["head"], [1])

    column.__doc__ = f"{site}, by head, patched from the clean run, of one pair."
    return column


def sweep_stream(subject: Subject) -> Cell:
    """The residual stream before and behind each layer, by position, of one pair."""
    cells = [_swept(subject, site, ["position"], [1], 2) for site in ("resid_pre", "resid_post")]
    return max(cells, key=lambda cell: cell.difference or 0.0)


# --- how sweeps run, and half precision -------------------------------------------------------------------------------


def cones(subject: Subject) -> Cell:
    """What a sweep leaves out: layers below the edit, positions before it, or nothing."""
    model = subject.model
    if not model.resumable:
        return Cell("exact", "full forwards")
    return Cell("exact", "layers and positions" if model.causal else "layers")


def half_precision(subject: Subject) -> Cell:
    """In bfloat16: logits bit for bit, and sweeps as far from full bfloat16 forwards as these are from float32."""
    half = Subject(subject.configuration, torch.bfloat16)
    with workbench_call():
        _ = half.model
    same = bit_identical(half)
    if same.state != "exact":
        return same
    inputs, example, plain, exact = half.inputs, 1, half.plain, subject.plain
    one_pair = some_of(inputs, [example])
    clean, corrupt = inputs.clean[example], inputs.corrupt[example]
    own_error, error, effect = 0.0, 0.0, 0.0
    base = subject.plain_score(corrupt, example)
    for site, by in (("z", ["head"]), ("z", ["head", "position"]), ("resid_pre", ["position"])):
        with workbench_call():
            positions = "all" if "position" in by else None
            result = wb.sweep(half.model, one_pair, site=site, by=by, positions=positions, cache=False)
        layers = plain.layers if site == "z" else list(range(plain.n_layers))
        rows = rows_of(result, layers)
        plain_site = half.plain_site(site)
        sources = [p.read(clean, plain_site, *layers) for p in (plain, exact)]
        for index in list(_indices(len(layers), by, plain.n_heads, len(clean)))[:: 11 if len(by) == 2 else 2]:
            position = index[-1] if "position" in by else None
            head = index[1] if "head" in by else None
            changes = [_copied(source[index[0]], head, position) for source in sources]
            edit = (plain_site, layers[index[0]])
            in_half = half.plain_score(corrupt, example, {edit: changes[0]})
            in_full = subject.plain_score(corrupt, example, {edit: changes[1]})
            own_error = max(own_error, abs(in_half - in_full))
            error = max(error, abs(float(result.values[(rows[index[0]], *index[1:], 0)]) - in_half))
            effect = max(effect, abs(in_full - base))
    text = f"bfloat16's own error {own_error:.0e}"
    if half.model.proofs.warned_of_rounding and error > HALF_ERRORS * own_error:
        return Cell("stated", f"{text}; a warning says that rounding chooses other experts", error, effect)
    return Cell("wrong" if error > HALF_ERRORS * own_error + 1e-6 else "exact", text, error, effect)


def _indices(n_layers: int, by: list[str], n_heads: int, length: int) -> Iterator[tuple[int, ...]]:
    sizes = [n_layers, *({"head": n_heads, "position": length}[axis] for axis in by)]
    return iter(map(tuple, torch.cartesian_prod(*map(torch.arange, sizes)).view(-1, len(sizes)).tolist()))


COLUMNS: dict[str, Callable[[Subject], Cell]] = {
    "wraps": wraps,
    "bit-identical": bit_identical,
    "z": z,
    "pattern": pattern,
    "q, k, v": qkv,
    "sweep z · head": sweep_heads,
    "sweep z · head · position": sweep_heads_positions,
    "sweep v": _site_sweep("v"),
    "sweep k": _site_sweep("k"),
    "sweep q": _site_sweep("q"),
    "sweep pattern": _site_sweep("pattern"),
    "sweep stream · position": sweep_stream,
    "path patching": paths,
    "attributions": attributions,
    "scores": scores,
    "cones": cones,
    "bfloat16": half_precision,
}


def family_cells(configuration: Configuration) -> dict[str, Cell]:
    """Every column of one family; only the first where the model is refused."""
    subject = Subject(configuration)
    _require_a_forward(subject)
    cells = {"wraps": measured(wraps, subject)}
    if cells["wraps"].state != "exact":
        return cells
    for name, column in COLUMNS.items():
        cells[name] = measured(column, subject)
    return cells


def _require_a_forward(subject: Subject) -> None:
    """The tiny model itself works, where it takes token ids alone."""
    if subject.configuration.head in ("causal", "masked"):
        try:
            logits = tiny_model(subject.configuration)(subject.inputs.clean[0][None], use_cache=False).logits
        except Exception as error:
            raise NoTinyModel(f"its own forward fails: {one_line(error)}") from None
        if not bool(torch.isfinite(logits).all()):
            raise NoTinyModel("its logits are not finite")
