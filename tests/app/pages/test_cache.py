"""The page Cache on a cache of its own."""

from __future__ import annotations

import torch

from tests.app.pages.driving import new_page
from workbench.cache.store import Store
from workbench.io.user_folder import user_folder


def test_the_cache_is_counted_checked_and_cleared() -> None:
    store = Store(user_folder() / "activations")
    store.put("activation", {"x": ([b"k" * 32], torch.zeros(1, 1000))})
    store.flush()
    app = new_page("cache").run()
    assert not app.exception and app.metric[2].value == "1"
    app.button(key="verify").click().run()
    assert "1 blocks are intact, 0 were damaged" in app.success[0].value
    app.number_input(key="keep").set_value(0.0)
    app.button(key="gc").click().run()
    assert not app.exception and "0.0 MB left" in app.success[0].value
