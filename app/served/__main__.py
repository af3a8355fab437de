"""The server: Streamlit's own, and beside its start what the frame of every page needs is imported."""

import threading
from importlib import import_module

from streamlit.web.cli import main

threading.Thread(target=import_module, args=("app.Home",), daemon=True).start()
main(prog_name="streamlit")
