"""`attention_on_image`: the patterns of a layer's heads on one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.core import full_name
from workbench.inputs.images import Images
from workbench.inputs.pixels import as_seen, check_vision
from workbench.models.in_forward import attends_in_shares
from workbench.models.patches import pair
from workbench.models.precision import at_least_float32
from workbench.patching.record import record

if TYPE_CHECKING:
    from workbench.plotting.image_attention import ImageAttention


def attention_on_image(model: Any, image: Any, layer: int, *, cache: Any = None) -> ImageAttention:
    """The attention of every head of a layer on one image: ``pattern[head, dest, src]``, the pattern as the model uses
    it, and the picture that the model sees, cut to the patches that it reads.

    Args:
        model: a vision model with an image processor, such as `workbench.HookedViT`.
        image: `workbench.images` of one image.
        layer: which layer.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no vision model, no such layer, more than one image, or a layer whose operator has no matrix.
        BadInput: an image that the model's image processor cannot process.

    Examples:
        >>> import numpy as np
        >>> model = wb.load("digits-vit")
        >>> image = wb.images([np.arange(64, dtype=np.uint8).reshape(8, 8)])
        >>> seen = wb.attention_on_image(model, image, layer=2)
        >>> seen.pattern.shape, seen.patches(head=1, position="cls").shape  # [head, dest, src], [row, column]
        ((4, 17, 17), (4, 4))
    """
    from workbench.plotting.image_attention import ImageAttention

    check_vision(model)
    if not isinstance(image, Images) or len(image) != 1:
        raise arguments.refusal("image", image, "images with one image", "Use wb.images([image]), or images.of([0]).")
    layer = arguments.index("layer", layer, model.n_layers, "layer")
    recording = record(model, image, ["pattern"], layer, cache=cache)
    pattern = at_least_float32(recording.clean["pattern"][0][0]).cpu().numpy()
    grid, (picture,) = model.patch_grid(pattern.shape[-1]), image.pictures
    seen = picture if image.seen_by else as_seen(model, picture)
    # What is left over at the edges is not read.
    rows, columns = (n * size for n, size in zip(grid, pair(model.config.patch_size), strict=True))
    return ImageAttention(
        pattern,
        grid,
        tuple(model.added_positions),
        seen.pixels[:rows, :columns],
        layer,
        full_name(model.provenance.get("name", ""), model.operators),
        picture.name,
        attends_in_shares(model, layer),
    )
