"""Contrast of the text that a page shows, by the formula of WCAG 2."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

#: Of normal text, level AA.
LEAST = 4.5


def too_faint(page: Page, least: float = LEAST) -> list[str]:
    """Texts whose contrast with what is behind them is below `least`: the text, its class, and the ratio.

    Text on a picture or a canvas is not seen here, nor that of disabled controls, which WCAG exempts.
    """
    return page.evaluate(Path(__file__).with_suffix(".js").read_text(encoding="utf-8"), least)
