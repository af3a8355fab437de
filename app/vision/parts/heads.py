"""The heads of the open head's layer as small pictures."""

from app import sidebar
from app.components.image_map import image_heads
from app.part import RIGHT, Part
from app.vision.on_image import attention
from app.vision.position import selected_position
from app.vision.view import View


def render(view: View) -> None:
    """The part."""
    seen = attention(view)
    at = seen.index(selected_position(seen.labels))
    image_heads(seen, view.head.index, at, key="image-heads", on_pick=sidebar.select_head)


HELP = "Below the map are all **heads of the layer**, from the same position: a click, or Enter, opens one."
part = Part("heads", 20, RIGHT, render, ("vision",), HELP)
