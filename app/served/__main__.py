"""The server: Streamlit's own. What the frame of every page needs is imported before it answers, so that the first
request does not wait for it."""

from importlib import import_module

from streamlit.web.cli import main

import_module("app.Home")
main(prog_name="streamlit")
