"""Layout mask: the reference's toy, cell by cell."""

import pytest
import torch

from tests.workbench.attention.operators.mask_cases import close, proof, random
from workbench.attention.operator import operator
from workbench.errors import UsageError

LAYOUT = operator("layout-mask")


def toy() -> dict[str, torch.Tensor]:
    """Two objects of 2 tokens, 3 of a prompt, 4 of an image, 4 of a subject; boxes 1100 and 0010, subject 0110."""
    kind = torch.tensor([0] * 4 + [1] * 3 + [2] * 4 + [3] * 4)
    boxes = torch.zeros(2, 15, dtype=torch.bool)
    boxes[0, [7, 8]] = boxes[1, 9] = True
    subject = torch.zeros(15, dtype=torch.bool)
    subject[[8, 9, 12, 13]] = True
    return {"kind": kind, "object": torch.tensor([0, 0, 1, 1] + [0] * 11), "boxes": boxes, "subject": subject}


def mask_of(data: dict[str, torch.Tensor], dest: int = 15) -> torch.Tensor:
    q, k, _ = random(1, 1, 15, 4)
    mask = LAYOUT.operator.mask
    assert mask is not None
    return mask(q[:, :, -dest:], k, LAYOUT.call(data=data))


def test_the_references_toy():
    mask = mask_of(toy())[0, 0]
    assert mask.sum() == 107
    assert mask.sum(-1).tolist() == [4, 4, 3, 3, 9, 9, 9, 9, 13, 13, 7, 6, 6, 6, 6]
    one_way = mask & ~mask.T
    assert (mask != mask.T).sum() == 12
    assert one_way[4:7].sum() + one_way[11:].sum() == one_way.sum()


def test_cells():
    data = toy()
    mask = mask_of(data)[0, 0]
    kind, number, boxes, subject = (data[name] for name in ("kind", "object", "boxes", "subject"))
    for i in range(15):
        for j in range(15):
            row, column = int(kind[i]), int(kind[j])
            table = [
                [number[i] == number[j], False, boxes[number[i], j], False],
                [False, True, True, subject[j]],
                [boxes[number[j], i], True, True, subject[i]],
                [False, False, subject[j], True],
            ]
            assert bool(mask[i, j]) == bool(table[row][column]), (i, j)


def test_without_boxes_an_object_sees_itself():
    data = {**toy(), "boxes": torch.zeros(2, 15, dtype=torch.bool)}
    assert mask_of(data)[0, 0, :4].sum(-1).tolist() == [2, 2, 2, 2]
    none = {**data, "boxes": torch.zeros(0, 15, dtype=torch.bool)}
    assert torch.equal(mask_of(none), mask_of(data))


def test_both_forms_agree():
    proof(LAYOUT, [15], causal=[False], values=lambda length: {"data": toy()})
    proof(LAYOUT, [1, 2, 5, 24, 33], causal=[False], values=lambda length: LAYOUT.operator.trial(2, length))
    assert set(LAYOUT.operator.trial(2, 24)["data"]["kind"].tolist()) == {0, 1, 2, 3}


def test_each_example_may_have_its_layout():
    one, other = toy(), {**toy(), "subject": torch.zeros(15, dtype=torch.bool)}
    both = {name: torch.stack([one[name], other[name]]) for name in one}
    close(mask_of(both).double(), torch.cat([mask_of(one), mask_of(other)]).double())


def test_mass_by_kind():
    q, k, v = random(2, 2, 15, 4)
    call = LAYOUT.call(causal=False, data=toy())
    mass, pattern = LAYOUT.record(q, k, v, call)["mass"], LAYOUT.pattern(q, k, call)
    close(mass[:, :, 1, 2], pattern[:, :, 4:7, 7:11].sum(-1).mean(-1))
    close(mass.sum(-1), torch.ones(2, 2, 4, dtype=torch.float64))
    assert mass[:, :, 3, 1].count_nonzero() == 0
    last = LAYOUT.record(q[:, :, 7:], k, v, call)["mass"]
    close(last[:, :, 2:], mass[:, :, 2:])
    assert last[:, :, :2].count_nonzero() == 0


def test_what_is_missing_or_does_not_fit_is_refused():
    q, k, v = random(1, 1, 14, 4)
    with pytest.raises(UsageError, match=r"data\['kind'\] is for 15 positions, and there are 14"):
        LAYOUT.z(q, k, v, LAYOUT.call(data=toy()))
    with pytest.raises(UsageError, match="names an object that none of the 2 boxes is for"):
        mask_of({**toy(), "object": torch.tensor([0, 0, 2, 2] + [9] * 11)})
    with pytest.raises(UsageError, match=r"data\['kind'\] has other numbers"):
        mask_of({**toy(), "kind": toy()["kind"] + 1})
    with pytest.raises(UsageError, match=r"layout-mask needs the kind of each token .* data\['kind'\]"):
        LAYOUT.z(q, k, v, LAYOUT.call())
