"""What every file of ``probes/memory/rules`` must do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from probes.memory.criteria import CRITERIA
from probes.memory.laws import Sizes
from probes.memory.memory import Memory, rule_of
from probes.memory.rule import PRESET
from workbench.attention.operator import operator
from workbench.errors import UsageError
from workbench.registry import MEMORY_RULES, ROOT

NAMES = MEMORY_RULES.names()


def pairs(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return keys / keys.norm(dim=-1, keepdim=True), values / values.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    rule, settings = rule_of(name)
    assert rule.title and rule.source and MEMORY_RULES.summary(name).endswith((".", ":", "``"))
    assert rule.text(settings) == name
    for setting in rule.settings.values():
        assert setting.what
    page = (ROOT / "docs" / "howto" / "memory.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page, f"docs/howto/memory.md has no line of {name}"


def variants(name: str) -> list[dict[str, Any]]:
    rule: Any = MEMORY_RULES[name]
    words = [{key: word} for key, s in rule.all_settings.items() if s.kind == "word" for word in s.choices]
    return [{}, *(values for values in words if values != {"retention": "mirror"})]  # moneta's needs another q


@pytest.mark.parametrize("name", NAMES)
def test_its_text_gives_its_settings_back(name: str) -> None:
    for values in variants(name):
        rule, settings = rule_of(name, **values)
        assert rule_of(rule.text(settings))[1] == settings
        changed = {key: value / 2 for key, value in settings.items() if isinstance(value, float) and key not in "pq"}
        rule, settings = rule_of(name, **{**values, **changed})
        assert rule_of(rule.text(settings))[1] == settings


@pytest.mark.parametrize("name", NAMES)
def test_settings_out_of_range_are_refused_by_name(name: str) -> None:
    rule: Any = MEMORY_RULES[name]
    for key, setting in rule.settings.items():
        odd = [math.nan, math.inf, "much", [1]] if setting.kind == "number" else ["nonsense", 3]
        odd += [setting.at_most + 1] if setting.at_most is not None else []
        odd += [setting.above] if setting.above is not None else []
        for value in odd:
            with pytest.raises(UsageError) as error:
                rule_of(name, **{key: value})
            assert str(error.value).startswith(f"{name}({key})=") and "\n" not in str(error.value)
    if rule.presets:
        for preset in rule.presets:
            assert rule_of(name, preset=preset)[1] == {PRESET: preset, **rule.presets[preset]}


@pytest.mark.parametrize("name", NAMES)
def test_what_it_reads_is_linear_in_the_values_as_it_says(name: str) -> None:
    for values in variants(name):
        memory = Memory(name, **values)
        k, v = pairs(2, 12, 5)
        parts = (v, v.flip(1), v + v.flip(1))
        one, other, both = (Memory(name, **values).write(k, part).read(k) for part in parts)
        assert torch.allclose(both, one + other, rtol=1e-9, atol=1e-9) == memory.rule.linear_in_v(memory.settings)


@pytest.mark.parametrize("name", NAMES)
def test_its_precision_is_that_of_what_is_written(name: str) -> None:
    for kind in (torch.float32, torch.float64):
        k, v = (x.to(kind) for x in pairs(2, 12, 5))
        read = Memory(name).write(k, v).read(k)
        assert read.dtype == kind and read.shape == (2, 12, 5) and bool(read.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_its_operator_exists_and_its_laws_are_numbers(name: str) -> None:
    rule, settings = rule_of(name)
    if rule.operator is not None:
        assert operator(rule.operator(settings)).operator.name
    assert set(rule.laws) <= set(CRITERIA)
    for law in rule.laws.values():
        values = [law.value(n, Sizes(16, 16, settings)) for n in (1, 2, 16, 100)]
        assert law.formula and all(math.isfinite(value) and value >= 0 for value in values)
