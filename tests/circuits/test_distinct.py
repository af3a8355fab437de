"""Random sets of heads are different ones; where there are few, they are all that there are."""

from __future__ import annotations

from itertools import chain, combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits import circuit_tests
from circuits.distinct import how_many_halves, how_many_like, random_halves, random_like
from workbench.core import Head

CIRCUITS = st.frozensets(st.builds(Head, st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=7)


def test_random_sets_have_as_many_heads_of_each_layer_and_none_of_the_circuits() -> None:
    circuit = frozenset({Head(0, 1), Head(0, 2), Head(3, 5)})
    sets = random_like(circuit, 9, 40, seed=1)
    for other in sets:
        assert sorted(head.layer for head in other) == [0, 0, 3]
        assert not other & circuit
        assert all(0 <= head.index < 9 for head in other)
    assert len(set(sets)) == len(sets) == 40
    assert how_many_like(circuit, 9) == comb(7, 2) * 8
    assert sets == random_like(circuit, 9, 40, seed=1) != random_like(circuit, 9, 40, seed=2)


@given(circuit=CIRCUITS, n_heads=st.integers(5, 6), draws=st.integers(1, 8))
def test_all_random_sets_are_given_where_there_are_no_more(circuit: frozenset[Head], n_heads: int, draws: int) -> None:
    total = how_many_like(circuit, n_heads)
    sets = random_like(circuit, n_heads, draws)
    assert len(set(sets)) == len(sets) == min(draws, total)
    assert circuit not in sets
    if total <= 200:
        assert len(set(random_like(circuit, n_heads, 1000))) == total
        assert set(sets) <= set(random_like(circuit, n_heads, 1000))


def test_a_head_among_four_has_three_others_of_its_layer() -> None:
    assert random_like({Head(10, 0)}, 4, 5) == [{Head(10, 1)}, {Head(10, 2)}, {Head(10, 3)}]
    # One other head is not enough for five: then any five are drawn, but not the circuit itself.
    crowded = random_like(frozenset(Head(0, i) for i in range(5)), 6, 10)
    assert len(set(crowded)) == 5 and all(len(other) == 5 for other in crowded)
    assert random_like(frozenset(Head(0, i) for i in range(4)), 4, 10) == []


@given(circuit=CIRCUITS, draws=st.integers(1, 12), seed=st.integers(0, 3))
def test_halves_are_different_subsets(circuit: frozenset[Head], draws: int, seed: int) -> None:
    ordered = sorted(circuit)
    proper = set(map(frozenset, chain.from_iterable(combinations(ordered, k) for k in range(1, len(ordered)))))
    known = {frozenset(ordered[:1])}
    halves = random_halves(circuit, draws, np.random.default_rng(seed), known)
    assert how_many_halves(circuit, known) == len(proper - known)
    assert len(set(halves)) == len(halves) == min(draws, len(proper - known)) and set(halves) <= proper - known


@pytest.mark.parametrize(("subsets", "named"), [(10, True), (3, True), (2, False)])
def test_a_circuit_of_three_heads_is_tested_without_each_set_of_them_once(subsets: int, named: bool) -> None:
    roles = {"mover": [Head(2, 1)], "induction": [Head(1, 0)], "previous-token": [Head(0, 3)]}
    every = frozenset(Head(i, j) for i in range(3) for j in range(4))
    left = circuit_tests.tested_sets(roles, every, 4, subsets, 20, 0)
    halves = {name: heads for name, heads in left.items() if name.startswith("all heads without ")}
    assert len(set(halves.values())) == len(halves) == len(roles) + min(subsets, 3)
    assert ("all heads without 0.3 2.1" in halves) == named
    assert any("random half" in name for name in halves) != named
    random = [heads for name, heads in left.items() if name.startswith("random")]
    assert len(set(random)) == len(random) == 20 and left[circuit_tests.CIRCUIT] not in random
