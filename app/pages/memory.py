"""Memory: how many pairs associative memories and recorded heads can hold, and protocols of conditioning."""

from __future__ import annotations

from app import part, sidebar, url_widgets
from app.fragment import rerun_alone
from app.memory.view import PARTS, View
from app.page import Page

#: The URL's parameter for the part that is open.
OPEN = "memory-part"
HELP = (
    "A head of linear attention is an associative memory: keys and values are written, a query reads. The three parts "
    "say how much such a memory holds, whether it learns as animals do, and what recorded heads could hold."
)


@rerun_alone("Memory")
def render() -> None:
    """The page: one part at a time, as only one of them needs a model."""
    titles = {some.name: some.name.capitalize().replace("-", " ") for some in part.parts(PARTS, "language")}
    name = url_widgets.segments("Part", tuple(titles), OPEN, format_func=titles.__getitem__)
    part.render([PARTS[name]], part.ABOVE, View(sidebar.model_name()))


page = Page(
    "memory",
    "Memory",
    "psychology",
    6,
    render,
    (),
    (sidebar.MODEL,),
    HELP,
    PARTS,
    "Choose a rule, and move the sliders: points are simulated, lines are laws.",
)
