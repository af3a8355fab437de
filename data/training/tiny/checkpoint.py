"""The checkpoint and its card."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny"

CARD = """# tiny

A two-layer Llama-like model ({heads} query heads, {kv} KV heads, d_model {d_model}; {parameters:,} parameters, float32)
that the project trains itself for its tests: `python -m data.training.tiny`.

It was trained for {seconds:.0f} s with seed {seed} on {threads} thread(s), torch {torch}.
It is no language model: its loss was taken at answers only, and its {vocabulary} words are those of the tasks.

Top-1 accuracy over the whole vocabulary on held-out prompts (seeds {seeds}; {each} prompts a seed):

| sequences | accuracy |
|---|---|
{rows}

The one-shot prompts of the task `colored-objects` tokenise but were not trained on, and are not solved.

SHA-256 of model.safetensors: {sha256}
"""


def save(
    out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, accuracy: dict[str, float], **facts: Any
) -> str:
    """Write the full checkpoint, then replace the old one; returns the SHA-256 of its weights."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / out.name
        model.config.save_pretrained(new)
        tokenizer.save_pretrained(new)
        weights = {name: x.contiguous() for name, x in model.state_dict().items() if name != "lm_head.weight"}
        save_file(weights, new / "model.safetensors", metadata={"format": "pt"})
        sha256 = hashlib.sha256((new / "model.safetensors").read_bytes()).hexdigest()
        rows = "\n".join(f"| {name} | {part:.4f} |" for name, part in accuracy.items())
        parameters = sum(x.numel() for x in weights.values())
        (new / "README.md").write_text(CARD.format(rows=rows, sha256=sha256, parameters=parameters, **facts))
        if out.exists():  # aside, not away, until the new one is complete
            os.replace(out, Path(folder) / "old")
        os.replace(new, out)
    return sha256
