"""The script that the server runs. It lies in a folder of its own: beside a folder ``pages`` Streamlit would run one of
those files alone when a fresh server is first asked for a page by its link."""

from app.Home import main

main()
