"""A diffusion model as a page and a job name it: how it is sampled, and what reads the sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sampled_by(model: Any, sampling: Mapping[str, Any], readout: Any = None) -> Any:
    """The model, sampled so.

    Args:
        sampling: ``sampler``, ``steps`` and ``guidance``.
        readout: a classifier, or None for pixels.

    Raises:
        UsageError: a setting that is not possible.
    """
    return model.resampled(**{name: sampling[name] for name in ("sampler", "steps", "guidance")}, readout=readout)
