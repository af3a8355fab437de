"""The explorer's entry: the widgets that every page shares, and the navigation over ``app/pages``.

Model, prompt and head live in the link, and stay in it when the page is switched, because their widgets are here.
"""

from __future__ import annotations

import streamlit as st

from app import chosen, models
from app.page import pages
from workbench.errors import WorkbenchError


def main() -> None:
    """Draw the side bar and the page."""
    st.set_page_config(page_title="Attention Workbench", page_icon=":material/grid_view:", layout="wide")
    found = pages()
    views = [
        st.Page(p.render, title=p.title, icon=f":material/{p.icon}:", url_path=p.name, default=i == 0)
        for i, p in enumerate(found)
    ]
    view = st.navigation(views, position="top")
    with st.sidebar:
        chosen.widgets(models.available())
    try:
        view.run()
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")


if __name__ == "__main__":
    main()
