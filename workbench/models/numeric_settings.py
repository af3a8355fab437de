"""Settings of torch, outside every model, that change the numbers of a forward on one machine."""

from __future__ import annotations

from typing import Any

import torch
from torch.backends import cuda

from workbench.attention import gpu_kernels


def numeric_settings(device: torch.device) -> dict[str, Any]:
    """Precisions, kernels and autocast that a forward on `device` runs with now (JSON-able), in this thread."""
    kind = device.type
    autocast = torch.is_autocast_enabled(kind)
    settings = {
        "autocast": str(torch.get_autocast_dtype(kind)) if autocast else None,
        "default dtype": str(torch.get_default_dtype()),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "sdpa": [
            cuda.math_sdp_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
            list(torch._C._get_sdp_priority_order()),
        ],
    }
    if kind == "cpu":
        return settings | {"mkldnn": torch._C._get_mkldnn_enabled()}
    return settings | {
        "tf32": [cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        "reduced precision": [
            bool(cuda.matmul.allow_fp16_reduced_precision_reduction),
            bool(cuda.matmul.allow_bf16_reduced_precision_reduction),
            cuda.fp16_bf16_reduction_math_sdp_allowed(),
        ],
        "cudnn": [torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark],
        "operator kernels": gpu_kernels.versions(),
    }
