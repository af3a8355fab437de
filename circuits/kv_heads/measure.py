"""Every key/value head as a memory on a set of texts: spectra, interference, sink share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

import workbench as wb
from workbench.findings import Study
from workbench.inputs.paired import PairedInputs
from workbench.registry import imported

from .roles import mean

if TYPE_CHECKING:
    from probes.head_memory.geometry import KeyGeometry

key_geometry = imported("probes.head_memory.geometry")
interference = imported("probes.head_memory.interference").interference
recorded = imported("probes.head_memory.recorded").recorded


@dataclass(frozen=True, eq=False)
class Measured:
    """One set of texts.

    Attributes:
        name: of the set.
        errors: name → squared error in each text: ``law_centred`` and ``law_uncentred`` (``n / PR − 1``), and those of
            `probes.head_memory.interference.interference`.
        sink: share of attention that the query heads of a key/value head give to the first position, their mean.
    """

    name: str
    inputs: PairedInputs
    geometry: KeyGeometry
    errors: Mapping[str, Float[np.ndarray, "text layer kv_head"]]
    sink: Float[np.ndarray, "layer kv_head"]

    def log_error(self, name: str) -> Float[np.ndarray, "layer kv_head"]:
        """The natural logarithm of a mean error over texts."""
        return np.log(self.errors[name].mean(0))

    def table(self) -> pd.DataFrame:
        """One row per key/value head."""
        frame = self.geometry.frame().drop(columns=["predicted_centred", "predicted_uncentred"])
        errors = {f"error_{name}": values.mean(0).ravel() for name, values in self.errors.items()}
        return frame.assign(sink=self.sink.ravel(), **errors, n=len(self.inputs)).assign(texts=self.name)


def measure(study: Study, name: str, inputs: PairedInputs, seed: int) -> Measured:
    """Measure the heads on texts; `seed` is of random values and permutations."""
    model, spectra, rows = study.model, [], []
    rng, shape = np.random.default_rng(seed), (model.n_layers, model.n_kv_heads)
    for i, (keys, values) in enumerate(recorded(model, inputs, progress=study.step(f"keys on {name}"))):
        study.progress(i, len(inputs), f"interference on {name}")
        spectra.append(key_geometry.spectra_of(keys))
        k, v = (x[:, :, 1:].flatten(0, 1) for x in (keys, values))
        rows.append({kind: error.numpy().reshape(shape) for kind, error in interference(k, v, rng).items()})
    geometry = key_geometry.of_texts(spectra, inputs)
    laws = {f"law_{kind}": geometry.predicted(kind) for kind in ("centred", "uncentred")}
    measured = {kind: np.stack([row[kind] for row in rows]) for kind in rows[0]}
    on_texts = wb.scores_on(model, inputs, progress=study.step(f"sink shares on {name}"))
    return Measured(name, inputs, geometry, {**laws, **measured}, mean(on_texts["sink"], model.n_kv_heads))
