"""The page Vision on a pair of digits, with its sweeps in this process; and Hugging Face's model with plain hooks."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.vision import sweep_controls
from app.work.worker import JOB_KINDS, Worker
from tests.app.pages.driving import NewPage

NUMBER, OTHER, HEAD = 7, 3, (1, 2)


def pixels(number: int) -> np.ndarray:
    return wb.image_set("digits").test.pixels[number, 0]


def plain(image: np.ndarray, heads: dict[tuple[int, int], torch.Tensor] | None = None, at: Any = slice(None)) -> Any:
    """Hugging Face's logits of an image, with z of heads replaced at some positions; and z of each layer, ``[pos, head,
    d]``, as the output projections get it."""
    model = wb.load("digits-vit")
    inputs = model.processor([Image.fromarray(image)], return_tensors="pt")["pixel_values"]
    seen: list[torch.Tensor] = []

    def hook(layer: int) -> Any:
        def before(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            z = args[0].unflatten(-1, (model.n_heads, -1)).clone()
            seen.append(z[0].clone())
            for (where, head), values in (heads or {}).items():
                if where == layer:
                    z[0, at, head] = values[at]
            return (z.flatten(-2), *args[1:])

        return before

    layers = model.hf.vit.layers
    handles = [block.attention.o_proj.register_forward_pre_hook(hook(i)) for i, block in enumerate(layers)]
    try:
        with torch.no_grad():
            return model.hf(inputs).logits[0], seen
    finally:
        for handle in handles:
            handle.remove()


def open_pair(new_page: NewPage, **params: str) -> AppTest:
    of_pair = {"image_number": str(NUMBER), "other_image_number": str(OTHER), "head": f"{HEAD[0]}.{HEAD[1]}"}
    app = new_page(model="digits-vit", image_position="1,2", **of_pair, **params)
    assert not app.exception and not app.error and not app.warning
    return app


def request_of(monkeypatch: pytest.MonkeyPatch, new_page: NewPage, **params: str) -> tuple[AppTest, dict[str, Any]]:
    """The page with its sweep computed by the worker's own function, in this process."""
    requests: list[dict[str, Any]] = []

    class Now(sweep_controls.Background[wb.Sweep]):
        def result(self, start: bool = False) -> Any:
            job = {"kind": self.kind, "key": self.key, **json.loads(json.dumps(self.request))}
            if self.stored() is None:
                requests.append(job)
                JOB_KINDS["sweeps"](Worker(io.StringIO()), job, lambda *_: None)
            return self.stored()

    monkeypatch.setattr(sweep_controls, "Background", Now)
    return open_pair(new_page, **params), requests[0]
