"""Cells of the table of families that are wrong, each with the reason: work to be done. The aim is none."""

from __future__ import annotations

#: Family → column → why it is still wrong.
NOT_YET: dict[str, dict[str, str]] = {}
