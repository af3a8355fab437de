"""Which sites have heads, for short names (``k``) and for hook names inside a block (``attn.hook_rot_k``)."""

from __future__ import annotations

from workbench.core import HEAD_SITES, KV_SITES

_KV_HOOKS = frozenset({"attn.hook_k", "attn.hook_k_normed", "attn.hook_rot_k", "attn.hook_v"})


def has_heads(site: str) -> bool:
    """Whether activations there have a head axis."""
    return site in HEAD_SITES or site.startswith("attn.hook_")


def has_kv_heads(site: str) -> bool:
    """Whether that axis counts key/value heads."""
    return site in KV_SITES or site in _KV_HOOKS
