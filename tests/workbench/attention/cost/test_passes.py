"""Passes over the keys: FuseMax's published classes, and what the definition says of small cascades."""

from __future__ import annotations

import pytest

from workbench.attention.cost import cascades
from workbench.attention.cost.passes import KEYS, Level, einsums, levels, passes
from workbench.errors import BadInput

SCALED_BY_ITSELF = "Y[] = A[m1,m0] B[m1,m0]\nZ[] = Y[] A[m1,m0]"
FACTORED = "Y[] = A[m1,m0] B[m1,m0]\nX[] = sum A[m1,m0]\nZ[] = Y[] X[]"
SCALED_BY_ANOTHER = "Y[] = A[m1,m0] B[m1,m0]\nZ[m1,m0] = Y[] C[m1,m0]"
LAYER_NORM = """
MU[] = mean X[m1,m0]
D[m1,m0] = X[m1,m0] - MU[]
VAR[] = mean square D[m1,m0]
Y[m1,m0] = D[m1,m0] / root VAR[]
"""
LAYER_NORM_OF_MOMENTS = """
MU[] = mean X[m1,m0]
SQUARES[] = mean square X[m1,m0]
VAR[] = SQUARES[] - square MU[]
Y[m1,m0] = (X[m1,m0] - MU[]) / root VAR[]
"""
#: As FuseMax's artifact writes what unfused attention and FLAT compute (src/accel/stable_softmax.py, f543beb).
ARTIFACT = """
QK[b,h,m,p] = Q[b,h,e,p] K[b,h,e,m]
M[b,h,p] = QK[b,h,m,p]
SN[b,h,m,p] = exp(QK[b,h,m,p] - M[b,h,p])
SD[b,h,p] = SN[b,h,m,p]
A[b,h,m,p] = SN[b,h,m,p] / SD[b,h,p]
AV[b,h,f,p] = A[b,h,m,p] V[b,h,f,m]
"""


@pytest.mark.parametrize(
    ("cascade", "count"),
    [
        (SCALED_BY_ITSELF, 2),
        (FACTORED, 1),
        (SCALED_BY_ANOTHER, 1),
        (cascades.UNSTABLE_SOFTMAX, 2),
        (cascades.UNSTABLE_SOFTMAX_DEFERRED, 1),
        (cascades.SOFTMAX, 3),
        (cascades.SOFTMAX_DEFERRED, 2),
        (cascades.LOCAL_MAXIMUM_SOFTMAX, 2),
        (cascades.RUNNING_SOFTMAX, 1),
        (cascades.LINEAR, 1),
        (LAYER_NORM, 3),
        (LAYER_NORM_OF_MOMENTS, 2),
    ],
)
def test_the_published_counts(cascade, count):
    assert passes(cascade) == count


def test_attention_as_the_papers_artifact_writes_it_takes_three():
    assert passes(ARTIFACT, ["m"]) == 3


def test_a_tile_of_the_running_softmax_is_read_twice():
    assert passes(cascades.RUNNING_SOFTMAX, ["m0"]) == 2


def test_the_level_of_each_tensor_of_softmax():
    level = levels(cascades.SOFTMAX)
    assert {tensor: entry.passes for tensor, entry in level.items()} == {
        "QK": 1,
        "GM": 1,
        "SN": 2,
        "SD": 2,
        "A": 3,
        "AV": 3,
    }
    assert {tensor for tensor, entry in level.items() if entry.streams} == {"QK", "SN", "A"}
    assert level["SN"] == Level(2, True, frozenset({"K"}))
    assert level["AV"].family == {"K", "V"}


def test_each_read_read_dependency_adds_a_pass():
    lines = ["S0[] = sum A[m1,m0]"]
    for n in range(1, 6):
        lines.append(f"S{n}[] = sum A[m1,m0] S{n - 1}[]")
        assert passes("\n".join(lines)) == n + 1


def test_loop_ranks_of_one_name_count_as_of_two():
    for name in ("SOFTMAX", "SOFTMAX_DEFERRED", "UNSTABLE_SOFTMAX", "LINEAR", "QUERY_FREE"):
        cascade = getattr(cascades, name)
        assert passes(cascade.replace("m1,m0", "m"), ["m"]) == passes(cascade), name


def test_without_keys_there_is_no_pass():
    assert passes(cascades.POSITION_WISE) == 0
    assert passes("") == 0


def test_selections_wait_for_the_whole_of_the_keys():
    for name in ("BLOCK_MEANS_SOFTMAX", "POOLED_SOFTMAX", "PROXY_SOFTMAX"):
        level = levels(getattr(cascades, name))
        assert (level["SELECTED"].passes, level["SELECTED"].streams) == (1, False), name
        assert level["AV"].passes == 2, name
    with_mask_known_before = cascades.running_softmax("QK[p,m1,m0] = Q[p,e] K[m1,m0,e] MASK[p,m1,m0]")
    assert passes(with_mask_known_before) == 1


def test_weights_over_receivers_are_normalised_in_passes_over_queries():
    assert passes(cascades.REVERSED, ["p1", "p0"]) == 3
    assert passes(cascades.RUNNING_REVERSED, ["p1", "p0"]) == 2
    assert passes(cascades.REVERSED) == passes(cascades.RUNNING_REVERSED) == 1


def test_a_state_of_the_chunk_before_needs_no_pass_of_its_own_and_one_of_all_chunks_does():
    assert passes(cascades.DECAYED_LINEAR) == passes(cascades.DELTA) == passes(cascades.GRADIENT_MEMORY) == 1
    of_all = "S[e,f] = K[m1,m0,e] V[m1,m0,f]\nO[m1,p0,f] = Q[m1,p0,e] K[m1,m0,e] V[m1,m0,f] + Q[m1,p0,e] S[e,f]"
    assert passes(of_all) == 2


def test_lines_are_read_with_comments_and_fixed_places():
    (einsum,) = einsums("\nAV[p,f] = RNV[p,M1,f] / RD[p,M1]  # at the end\n\n")
    assert einsum.output.tensor == "AV" and [read.tensor for read in einsum.inputs] == ["RNV", "RD"]
    assert einsum.ranks == {"p", "f"} and KEYS == ("m1", "m0")
    (einsum,) = einsums("R[m1] = max(R[m1-1], L[m1])")
    assert einsum.inputs[0].shifted == {"m1"}


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        ("QK[p,m1] Q[p]", "expected an Einsum"),
        ("QK = Q[p]", "expected an Einsum"),
        ("A[p] B[p] = Q[p]", "expected an Einsum"),
        ("R[m1+1] = R[m1]", "expected an Einsum"),
        ("A[p,m-] = Q[p]", "not 'm-'"),
        ("A[p] = Q[p]\nA[p] = K[p]", "written once"),
        ("A[p] = Q[p]\nB[p] = A[p,m]", "expected 1 indices of A"),
        ("A[p] = B[p]\nB[p] = Q[p]", "B is written later"),
        ("S[m1,m0] = K[m1,m0] T[m1-1]\nT[m1] = GM[] S[m1-1,m0]\nGM[] = S[m1,m0]", "GM is written later"),
    ],
)
def test_a_line_without_a_meaning_is_refused(cascade, message):
    with pytest.raises(BadInput, match=message):
        passes(cascade)


def test_a_running_value_that_needs_the_end_of_its_own_pass_is_refused():
    with pytest.raises(BadInput, match="a running value depends on the end of its own pass"):
        passes("S[m1,m0] = K[m1,m0] G[m1-1]\nG[p] = sum S[m1,m0]")
