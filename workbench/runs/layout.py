"""Names in a run directory that writers and readers share; `workbench.runs.directory` says what they hold."""

#: The format that ``run.json`` names.
FORMAT = "workbench.run/1"
#: The marker of a finished run: the SHA-256 of every other file.
DONE = "done"
