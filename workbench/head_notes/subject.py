"""`Subject`: which model notes are of: its name, its weights and the operators in its layers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from workbench import arguments
from workbench.core import WITH, Head, full_name
from workbench.errors import BadInput, UnsupportedModel, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.models.hooked import HookedModel

FIELDS = ("model", "weights", "operators", "operator_weights", "n_layers", "n_heads")
_HASH = re.compile(r"[0-9a-f]{40}")


class Subject:
    """A model, as its notes name it.

    Attributes:
        name: its name; of one in a folder or file the last part of the path, so that no path leaves the machine.
        operators: the operators that were swapped in, by layer.
        n_layers, n_heads: which heads there are.

    Args:
        hashes: gives the hash of the weights, and that of the operators' own; called when they are first needed.
    """

    def __init__(
        self,
        name: str,
        hashes: Callable[[], tuple[str, str]],
        operators: Mapping[str, str],
        n_layers: int,
        n_heads: int,
    ) -> None:
        self.name, self.operators, self.n_layers, self.n_heads = name, dict(operators), n_layers, n_heads
        self._hash = hashes

    @classmethod
    def of_model(cls, model: HookedModel) -> Subject:
        """A model in memory."""
        operators = {str(layer): str(operator) for layer, operator in sorted(model.operators.items())}
        name = short_name(str(model.provenance.get("name") or "in memory"))
        return cls(name, lambda: hash_weights(model), operators, model.n_layers, model.n_heads)

    @classmethod
    def from_json(cls, data: Any, what: str) -> Subject:
        """The inverse of `json`, of untrusted input; raises `BadInput`, naming `what`."""
        if not isinstance(data, dict) or (lacking := [field for field in FIELDS if field not in data]):
            raise BadInput(f"{what}: the field {lacking[0] if isinstance(data, dict) else FIELDS[0]!r} is missing.")
        name, weights, operators, own, *sizes = (data[field] for field in FIELDS)
        try:
            arguments.text("model", name)
            if not isinstance(weights, str) or not _HASH.fullmatch(weights):
                raise arguments.refusal("weights", weights, "40 hexadecimal digits")
            if not isinstance(own, str) or not (_HASH.fullmatch(own) or not own):
                raise arguments.refusal("operator_weights", own, "40 hexadecimal digits, or none")
            if not isinstance(operators, dict) or not all(
                layer.isdecimal() and len(layer) < 6 and isinstance(operator, str)
                for layer, operator in operators.items()
            ):
                raise arguments.refusal("operators", operators, "a mapping from layer to operator")
            for field, size in zip(FIELDS[4:], sizes, strict=True):
                arguments.whole_number(field, size, at_least=1, at_most=100_000)
        except UsageError as error:
            raise BadInput(f"{what}: {error}") from None
        return cls(name, lambda: (weights, own), operators, *sizes)

    @cached_property
    def hashes(self) -> tuple[str, str]:
        """The hashes of the weights, and of the operators' own: 40 hexadecimal digits, or none where they have none."""
        return self._hash()

    @property
    def weights(self) -> str:
        """The hash of the weights."""
        return self.hashes[0]

    @property
    def full_name(self) -> str:
        """The name, with the operators where there are any."""
        return full_name(self.name, self.operators)

    @property
    def folder_name(self) -> str:
        """A safe name of a folder, for models of this name."""
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", self.name)[:60].strip("-.")
        return f"{readable}-{blake2b(self.name.encode(errors='replace'), digest_size=4).hexdigest()}"

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits for these weights and operators."""
        text = repr((*self.hashes, sorted(self.operators.items())))
        return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()

    def json(self) -> dict[str, Any]:
        """Plain JSON."""
        weights, own = self.hashes
        values = (self.name, weights, self.operators, own, self.n_layers, self.n_heads)
        return dict(zip(FIELDS, values, strict=True))

    def link(self, head: Head) -> str:
        """Where the explorer shows a head of the model."""
        operators = self.full_name.removeprefix(self.name).removeprefix(WITH)
        named = {"model": self.name, **({"operators": operators} if operators else {}), "head": str(head)}
        return f"/?{urlencode(named)}"


def short_name(name: str) -> str:
    """A model's name; of one that is a path the last part."""
    path = os.path.expanduser(name)
    if not (os.path.isabs(path) or path.startswith(".") or os.path.exists(path)):
        return name
    return os.path.basename(os.path.abspath(path)) or name


def hash_weights(model: HookedModel) -> tuple[str, str]:
    """A hash of every parameter and stored buffer: names, shapes and numbers, whatever the device and whatever the
    floating-point type, as long as it holds the same numbers; and one of those of swapped operators, empty without any.

    Raises:
        UnsupportedModel: weights that are not in memory, or of a kind that has no numbers to hash.
    """
    from workbench.models.swapped_attention import CHILD
    from workbench.models.tensor_hash import hash_tensors

    named = [*model.hf.named_parameters(), *_stored_buffers(model.hf)]
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            sums = dict(pool.map(lambda pair: (pair[0], hash_tensors([(pair[0], _plain(pair[1]))]).hex()), named))
    except (NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UnsupportedModel(f"The weights have no hash, so notes cannot be told apart by them: {reason}") from None
    own = [value for name, value in sums.items() if f".{CHILD}." in f".{name}"]
    rest = [value for name, value in sums.items() if f".{CHILD}." not in f".{name}"]
    return _joint(rest), _joint(own) if own else ""


def _joint(sums: list[str]) -> str:
    return blake2b("".join(sums).encode(), digest_size=20).hexdigest()


def _stored_buffers(root: Any) -> list[tuple[str, Tensor]]:
    """Those that a checkpoint has; the others are made from the configuration."""
    return [
        (f"{prefix}.{name}", buffer)
        for prefix, module in root.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]


def _plain(x: Tensor) -> Tensor:
    """The same numbers in float32, where that holds them."""
    import torch

    if x.dtype in (torch.bfloat16, torch.float16):
        return x.detach().float()
    if x.dtype == torch.float64:
        single = x.detach().float()
        return single if torch.equal(single.double(), x.detach()) else x
    return x
