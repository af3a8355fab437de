"""Scores that a model does not have, and why: their values are NaN, and the reason stands with the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.head_scores import through_modules, weights

#: Scores of weights alone.
OF_WEIGHTS = ("ov_norm", "ov_rank", "qk_norm", "qk_rank", *(f"{kind}_composition" for kind in weights.KINDS))


def why_absent(model: Any, values: Mapping[str, np.ndarray], lens: np.ndarray) -> dict[str, str]:
    """Score → why no head has it, of those that no head has; the logit lens is ``logit_lens``."""
    absent = [name for name, x in values.items() if not np.isfinite(x).any()]
    of_weights = weights.why_not(model) if any(name in absent for name in (*OF_WEIGHTS, "copy_score")) else ""
    reasons = {}
    for name in absent:
        if name == "direct_logit_attribution":
            reasons[name] = model.additivity.why_not
        elif name in OF_WEIGHTS:
            reasons[name] = of_weights
        elif name == "copy_score":
            reasons[name] = of_weights or weights.why_no_copy_score(model)
        elif name in ("ioi_copy", "ioi_copy_negative"):
            reasons[name] = through_modules.why_no_read_out(model)
    if not np.isfinite(lens).any():
        reasons["logit_lens"] = NO_STREAM
    return {name: reason for name, reason in reasons.items() if reason}


NO_STREAM = "the layers carry several streams, none of which is the residual stream."
