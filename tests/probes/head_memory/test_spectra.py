"""Spectra of keys against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from probes.head_memory.geometry import KINDS, key_geometry, spectra_of
from probes.head_memory.recorded import recorded
from probes.head_memory.spectra import centred, entropy_rank, participation_ratio, singular_values, unit
from probes.memory import laws
from workbench.errors import UnknownName, UsageError

TEXTS = ["Mary and John went to the store, and John gave a book to", "When Anna and Paul went to the park, Anna gave"]


@pytest.fixture(scope="module")
def model() -> wb.HookedLM:
    return wb.load("tiny")


def test_orthonormal_keys_use_all_their_directions() -> None:
    s = torch.linalg.svdvals(torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0][:5])
    assert participation_ratio(s) == pytest.approx(5)
    assert entropy_rank(s) == pytest.approx(5)


@pytest.mark.parametrize(("pos", "size"), [(40, 16), (9, 16), (16, 16)])
def test_singular_values_are_those_of_the_decomposition(pos: int, size: int) -> None:
    x = torch.randn(3, 2, pos, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(singular_values(x), torch.linalg.svdvals(x))
    x[..., 5:, :] = 0
    torch.testing.assert_close(singular_values(x), torch.linalg.svdvals(x), atol=1e-7, rtol=1e-7)
    assert (singular_values(x)[..., 5:] == 0).all()


def test_keys_along_one_line_use_one_direction() -> None:
    s = torch.linalg.svdvals(torch.outer(torch.randn(9), torch.randn(4)).double())
    assert participation_ratio(s) == pytest.approx(1)
    assert entropy_rank(s) == pytest.approx(1, abs=1e-4)


def test_ranks_of_two_directions_in_closed_form() -> None:
    s = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    assert participation_ratio(s) == pytest.approx((9 + 1) ** 2 / (81 + 1))
    assert entropy_rank(s) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))


def test_n_over_the_participation_ratio_less_one_is_the_sum_of_squared_products() -> None:
    keys = unit(torch.randn(40, 7, dtype=torch.float64) + 0.5).numpy()
    gram = keys @ keys.T
    interference = np.square(gram - np.diag(np.diag(gram))).sum(1).mean()
    ratio = float(participation_ratio(torch.linalg.svdvals(torch.from_numpy(keys))))
    assert 40 / ratio - 1 == pytest.approx(interference, rel=1e-12)
    assert laws.of_gram(gram[None]) == pytest.approx(interference, rel=1e-12)


def test_a_softmax_does_not_see_what_all_keys_share() -> None:
    keys, q = torch.randn(2, 9, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    assert torch.allclose(((keys + 3) @ q).softmax(-1), (centred(keys) @ q).softmax(-1))


def test_a_row_of_zeros_stays_as_it_is() -> None:
    assert unit(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist() == [
        [0.0, 0.0],
        [0.6000000238418579, 0.800000011920929],
    ]


def test_the_geometry_of_recorded_keys_against_numpy(model: wb.HookedLM) -> None:
    geometry = key_geometry(model, TEXTS, cache=False)
    record = wb.record(model, TEXTS, ["k"], cache=False).clean["k"]
    for text, layer, head in [(0, 1, 2), (1, 0, 3)]:
        all_keys = record[text][layer, :, head].double().numpy()
        keys = all_keys[1:]
        away = keys - keys.mean(0)
        of_kind = {
            "centred": away / np.linalg.norm(away, axis=1, keepdims=True),
            "uncentred": keys / np.linalg.norm(keys, axis=1, keepdims=True),
            "raw": keys,
            "raw with first": all_keys,
        }
        for kind, x in of_kind.items():
            gram = x @ x.T
            expected = np.trace(gram) ** 2 / np.square(gram).sum()
            assert geometry.participation_ratio(kind)[text, layer, head] == pytest.approx(expected, rel=1e-9), kind
        gram = of_kind["centred"] @ of_kind["centred"].T
        assert geometry.predicted()[text, layer, head] == pytest.approx(np.square(gram).sum() / len(keys) - 1, rel=1e-9)
    spectrum = geometry.spectrum("1.kv2")
    assert (np.diff(spectrum) <= 1e-12).all()
    assert spectrum.sum() == pytest.approx(1)
    assert np.array_equal(spectrum, geometry.spectrum(wb.Head(1, 2)))


def test_one_row_for_each_key_value_head(model: wb.HookedLM) -> None:
    geometry = key_geometry(model, TEXTS[0], cache=False)
    frame = geometry.frame()
    assert list(frame["name"][:5]) == ["0.kv0", "0.kv1", "0.kv2", "0.kv3", "1.kv0"]
    assert np.allclose(frame["participation_ratio_centred"], geometry.participation_ratio()[0].ravel())


def test_keys_that_are_all_one_have_no_centred_spectrum() -> None:
    keys = torch.ones(1, 1, 6, 4, dtype=torch.float64)
    spectra = spectra_of(keys)
    assert set(spectra) == set(KINDS)
    assert participation_ratio(spectra["centred"]).isnan().all()
    assert participation_ratio(spectra["uncentred"]) == pytest.approx(1)


def test_what_is_wrong_is_said_in_one_line(model: wb.HookedLM) -> None:
    with pytest.raises(UsageError, match=r"texts=\['Mary'\]: expected texts of at least 4 tokens"):
        key_geometry(model, "Mary")
    with pytest.raises(UsageError, match="expected a language model"):
        key_geometry(wb.load("digits-vit"), TEXTS)
    with pytest.raises(UsageError, match=r"Layer 1 attends by uniform, which reads no keys"):
        key_geometry(wb.swap(model, {1: "uniform"}), TEXTS)
    geometry = key_geometry(model, TEXTS)
    with pytest.raises(UsageError, match=r"kind='raw': expected 'centred' or 'uncentred'"):
        geometry.predicted("raw")
    with pytest.raises(UsageError, match="kv_head=4: expected a key/value head from 0 to 3"):
        geometry.spectrum("0.4")
    with pytest.raises((UsageError, UnknownName), match=r"kind='whitened'"):
        geometry.spectrum("0.1", "whitened")


def test_keys_of_a_swapped_layer_that_reads_them(model: wb.HookedLM) -> None:
    swapped = key_geometry(wb.swap(model, {1: "lightning"}), TEXTS, cache=False)
    assert np.allclose(swapped.participation_ratio(), key_geometry(model, TEXTS, cache=False).participation_ratio())


def test_the_first_tokens_alone(model: wb.HookedLM) -> None:
    geometry = key_geometry(model, TEXTS, n_tokens=8, cache=False)
    assert geometry.n_keys.tolist() == [7, 7]
    keys, values = next(recorded(model, model.prepare(TEXTS[0]), cache=False))
    assert keys.shape[:2] == values.shape[:2] == (2, 4)
