"""Which sites have heads, for short names (``k``) and for hook names inside a block (``attn.hook_rot_k``)."""

from __future__ import annotations

from typing import Any

from workbench.arguments import refusal
from workbench.core import HEAD_SITES, KV_SITES

_KV_HOOKS = frozenset({"attn.hook_k", "attn.hook_k_normed", "attn.hook_rot_k", "attn.hook_v"})


def has_heads(site: str) -> bool:
    """Whether activations there have a head axis."""
    return site in HEAD_SITES or site.startswith("attn.hook_")


def has_kv_heads(site: str) -> bool:
    """Whether that axis counts key/value heads."""
    return site in KV_SITES or site in _KV_HOOKS


def check_vector(name: str, vector: Any, site: str, one_head: bool) -> None:
    """Refuse a vector without the axes that one position has at the site; their sizes are known when it is added.

    Raises:
        UsageError: it has more axes, or fewer.
    """
    axes = ["head", "src" if site.endswith("pattern") else "d_head"] if has_heads(site) else ["d_model"]
    axes = axes[1:] if one_head else axes
    if vector.ndim != len(axes):
        what = "one head of one position" if one_head else "one position"
        raise refusal(name, vector, f"the shape [{', '.join(axes)}]", because=f"that is {what} at site {site!r}")
