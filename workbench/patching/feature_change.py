"""What edits do to a vision model's feature: how alike it is to the clean and to the corrupt image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.core import Edit
from workbench.models.precision import at_least_float32
from workbench.patching.feature_metrics import cosine, distance
from workbench.patching.resolve import resolve_inputs, resolve_model
from workbench.patching.run import run

if TYPE_CHECKING:
    import pandas as pd


def feature_change(
    model: Any,
    images: Any,
    edits: Sequence[Edit],
    *,
    base: str = "clean",
    mean_over: Any = None,
    seed: int = 0,
    cache: Any = None,
) -> pd.DataFrame:
    """How alike a model's feature is to those of the clean and the corrupt image, without and with all `edits` at once:
    one row for each input and each of the two, ``input, to, cosine_before, cosine_after, distance_before,
    distance_after``. The cosine is ``f · g / (‖f‖ ‖g‖)``, the distance ``‖f − g‖₂``, of the edited run's feature f and
    the unedited image's, g; cosines with a feature of zeros are NaN. Images without corrupt ones have rows for the
    clean one only.

    Args:
        model: a model whose outputs are features, such as a `HookedViT` without a classifier.
        images: `wb.images`, or pairs of them.
        edits, base, mean_over, seed, cache: as in `workbench.run`.

    Raises:
        UsageError: the model's outputs are logits, for which `workbench.run` gives probabilities; and as
            `workbench.run`.

    Examples:
        >>> digits = wb.load("digits-vit")
        >>> encoder = wb.HookedViT(digits.hf.vit, digits.processor)  # without the classifier
        >>> image = wb.images([wb.image_set("digits").test.pixels[0, 0]])
        >>> change = wb.feature_change(encoder, image, [wb.Edit("z", 1, head=2, kind="zero")])
        >>> change["to"].tolist(), float(change["distance_before"][0])
        (['clean'], 0.0)
    """
    import pandas as pd

    resolve_model(model)
    if (outputs := getattr(model, "outputs_are", "logits")) != "features":
        do = "Use wb.run(...).table()." if outputs == "logits" else ""
        raise arguments.refusal("model", model, "a model that gives features", do, because=f"its outputs are {outputs}")
    inputs = resolve_inputs(images, model, "images")
    base = arguments.one_of("base", base, ("clean", "corrupt"))
    outcome = run(model, inputs, edits, base=base, mean_over=mean_over, seed=seed, cache=cache)
    unedited = {"clean": outcome.base_logits}
    if inputs.corrupt is not inputs.clean:
        for side in ("clean", "corrupt"):
            own = side == base
            unedited[side] = outcome.base_logits if own else run(model, inputs, [], base=side, unedited=False).logits
    rows = []
    for i in range(len(inputs)):
        before, after = (at_least_float32(x[i : i + 1]) for x in (outcome.base_logits, outcome.logits))
        for to, features in unedited.items():
            g = at_least_float32(features[i])
            measures = {"cosine": cosine, "distance": distance}
            numbers = {
                f"{name}_{when}": float(measure(f, g)[0])
                for name, measure in measures.items()
                for when, f in (("before", before), ("after", after))
            }
            rows.append({"input": i, "to": to, **numbers})
    return pd.DataFrame(rows)
