"""``workbench memory``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.cli.memory import parse_loads
from workbench.errors import UsageError
from workbench.registry import MEMORY_RULES

Run = Callable[..., tuple[int, str, str]]


def test_the_rules_are_listed(run: Run) -> None:
    code, out, _ = run("memory", "--json")
    assert code == 0 and [row["name"] for row in json.loads(out)["rules"]] == MEMORY_RULES.names()
    code, out, _ = run("memory")
    assert code == 0 and "gated-delta" in out and "S ← S + v kᵀ" in out


def test_options_without_a_rule_are_refused(run: Run) -> None:
    for option, value in (("--n", "8-16"), ("--d", "0"), ("--seed", "0")):
        code, out, err = run("memory", option, value)
        assert (code, out) == (2, "") and f"{option} is for a rule. Give --rule NAME" in err


def test_a_curve_is_that_of_python(run: Run) -> None:
    arguments = ("--rule", "gated-delta(decay=0.9)", "--d", "16", "--n", "4:32", "--trials", "20", "--seed", "3")
    code, out, _ = run("memory", *arguments, "--json")
    document = json.loads(out)
    curve = wb.memory("gated-delta", d=16, n=[4, 8, 16, 32], trials=20, seed=3, decay=0.9)
    assert code == 0 and document == {**json.loads(json.dumps(curve.json())), "out": None}
    code, out, _ = run("memory", *arguments)
    assert code == 0 and "exact in expectation" in out and "95 % interval" in out
    assert f"{curve.mean[1]:.3g}" in out


def test_every_option_arrives(run: Run) -> None:
    options = {"--criterion": "cosine", "--keys": "spectrum(exponent=0.5)", "--d-value": "5", "--passes": "2"}
    code, out, _ = run("memory", "--rule", "yaad", *sum(options.items(), ()), "--n", "4", "--trials", "3", "--json")
    info = json.loads(out)["info"]
    assert code == 0 and (info["criterion"], info["keys"], info["d_value"], info["passes"]) == (
        *("cosine", "spectrum(exponent=0.5)"),
        *(5, 2),
    )


def test_a_curve_is_written(run: Run, tmp_path: Path) -> None:
    small = ("memory", "--rule", "delta", "--d", "8", "--n", "4,6", "--trials", "10", "--out")
    for ending in ("csv", "parquet", "png", "safetensors"):
        path = tmp_path / f"curve.{ending}"
        code, out, _ = run(*small, str(path))
        assert code == 0 and f"Saved to {path}" in out and path.stat().st_size > 100
    curve = wb.MemoryCurve.load(tmp_path / "curve.safetensors")
    assert curve.loads == (4, 6)
    for table in (pd.read_csv(tmp_path / "curve.csv"), pd.read_parquet(tmp_path / "curve.parquet")):
        np.testing.assert_allclose(table["mean"], curve.mean)


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("8:512", [8, 16, 32, 64, 128, 256, 512]),
        ("8:500", [8, 16, 32, 64, 128, 256]),
        ("3:3", [3]),
        ("8:64:8", [8, 16, 24, 32, 40, 48, 56, 64]),
        ("1:10:4", [1, 5, 9]),
        ("100", [100]),
        ("8, 16,100", [8, 16, 100]),
    ],
)
def test_loads_are_read(text: str, loads: list[int]) -> None:
    assert parse_loads(text) == loads


@pytest.mark.parametrize(
    "text", ["0:8", "8:4", "8:16:0", "0", "", "a", "8:", "8;9", "-8:9", "1:2:3:4", "8,,9", "1.5", "nan"]
)
def test_loads_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected numbers of stored pairs above 0"):
        parse_loads(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", "0"), "--n 0: expected numbers of stored pairs above 0, such as 8:512, 8:64:8 or 8,16,100."),
        (("--n", "1:999999999:1"), "--n 1:999999999:1: expected at most 10,000 loads."),
        (("--d", "1"), "d=1: expected a whole number from 2"),
        (("--trials", "1"), "trials=1: expected a whole number from 2"),
        (("--criterion", "x"), "criterion='x': expected 'mse'"),
        (("--keys", "x"), "keys='x': expected one of random"),
        (("--rule", "delta(beta=nan)"), "delta(beta)='nan': expected a number above 0"),
        (("--rule", "nothing"), "rule='nothing': expected the name of a memory's rule."),
        (("--out", "curve.txt"), "--out curve.txt: give a file that ends in .csv"),
        (("--out", "no/curve.csv"), "--out no/curve.csv: the folder no does not exist."),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str, run: Run) -> None:
    code, out, err = run("memory", "--rule", "delta", *arguments)
    assert code == 2 and not out and err.startswith(f"workbench: {message}") and err.count("\n") == 1
