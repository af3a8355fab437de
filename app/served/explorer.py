"""The script that the server runs, in a folder of its own: next to a folder ``pages`` Streamlit would run one of those
files alone when the first request to a server is for a page by its name."""

from app.Home import main

main()
