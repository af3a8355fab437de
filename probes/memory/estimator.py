"""`AssociativeMemory`: a memory in scikit-learn's manner."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from workbench import arguments
from workbench.errors import WorkbenchError

from .draws import unit
from .memory import Memory, rule_of
from .rule import PRESET


class AssociativeMemory(RegressorMixin, BaseEstimator):
    """Writes rows of X as keys and y as values, and reads what is stored for other keys.

    ``fit`` begins with an empty memory, ``partial_fit`` writes more pairs into it, ``predict`` reads, and ``score`` is
    R², as of every regressor. Settings of the rule are parameters like `rule`: ``get_params``, ``set_params``,
    ``clone`` and searches over grids know them.

    Args:
        rule: such as ``"delta"``.
        unit: whether keys are scaled to length one (a key of zeros stays as it is).
        settings: of the rule.

    Attributes:
        memory_: the `Memory`.
        n_features_in_: dimensions of keys.

    Raises:
        UnknownName: no such rule or setting, of `fit`.
        UsageError: a setting that is not possible, of `fit`.

    Examples:
        >>> import numpy as np
        >>> from probes.memory.estimator import AssociativeMemory
        >>> memory = AssociativeMemory("delta", beta=1.0).fit(np.eye(3), [1.0, 2.0, 3.0])
        >>> memory.predict(np.eye(3)).round(3).tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, rule: str = "delta", unit: bool = True, **settings: Any) -> None:
        self.rule = rule
        self.unit = unit
        self._settings = settings

    def fit(self, X: Any, y: Any) -> AssociativeMemory:
        """Write pairs into an empty memory.

        Args:
            X: keys, ``[pair, d_key]``.
            y: values, ``[pair, d_value]``, or ``[pair]`` of one dimension.
        """
        return self._write(X, y, reset=True)

    def partial_fit(self, X: Any, y: Any) -> AssociativeMemory:
        """Write more pairs."""
        return self._write(X, y, reset=not hasattr(self, "memory_"))

    def predict(self, X: Any) -> np.ndarray:
        """What is stored for keys, of the shape of y."""
        check_is_fitted(self)
        keys = validate_data(self, X, reset=False, dtype=np.float64)
        values = self.memory_.read(self._keys(keys)).numpy()
        return values[:, 0] if self._is_flat else values

    def _write(self, X: Any, y: Any, *, reset: bool) -> AssociativeMemory:
        arguments.flag("unit", self.unit)
        keys, values = validate_data(self, X, y, reset=reset, multi_output=True, y_numeric=True, dtype=np.float64)
        if reset:
            self.memory_ = Memory(self.rule, **self._settings)
            self._is_flat = np.ndim(values) == 1
        values = np.asarray(values, dtype=np.float64)
        self.memory_.write(self._keys(keys), values[:, None] if values.ndim == 1 else values)
        return self

    def _keys(self, keys: Any) -> torch.Tensor:
        rows = torch.from_numpy(np.array(keys))
        return torch.where((rows == 0).all(-1, keepdim=True), rows, unit(rows)) if self.unit else rows

    # --- parameters: the rule's settings are some; like all of scikit-learn's they are checked when pairs are written

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """``rule``, ``unit`` and every setting of the rule."""
        try:
            _, settings = rule_of(self.rule, **self._settings)
        except WorkbenchError:  # `fit` says so
            settings = {}
        return {"rule": self.rule, "unit": self.unit, **settings, **self._settings}

    def set_params(self, **params: Any) -> AssociativeMemory:
        """Change parameters. With another rule, or another of its presets, the settings before are dropped."""
        before = self.get_params()
        after = {**before, **params}
        is_another = any(str(after.get(name)) != str(before.get(name)) for name in ("rule", PRESET))
        self.rule, self.unit = after["rule"], after["unit"]
        changes = {name: value for name, value in params.items() if name not in ("rule", "unit")}
        self._settings = {**({} if is_another else self._settings), **changes}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # it stores pairs: it does not extrapolate from a few features
        return tags
