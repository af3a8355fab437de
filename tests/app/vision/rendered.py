"""What the page Vision shows."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest


def components(app: AppTest) -> dict[str, Any]:
    """The data of the page's own components, by key."""
    return {str(element.key): json.loads(element.proto.json) for element in app.get("bidi_component")}


def floats(data: str) -> np.ndarray:
    """Weights as a component gets them."""
    return np.frombuffer(base64.b64decode(data), "<f4")
