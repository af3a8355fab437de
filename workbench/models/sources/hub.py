"""Models of the Hugging Face hub: only configuration, tokenizer and safetensors files are downloaded, at one commit.

The files stay in the hub's own cache, which other tools share. An unreachable hub is reported after one attempt.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from workbench.errors import NotAvailable, UntrustedModel
from workbench.io import trust

_TIMEOUT = 10.0
_CONFIGS = ["config.json", "adapter_config.json"]
_SAFE_NAME = re.compile(
    r"config\.json|adapter_config\.json|adapter_model\.safetensors|generation_config\.json|model.*\.safetensors|model\.safetensors\.index\.json|tokenizer.*\.(json|model)"
    r"|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|preprocessor_config\.json|processor_config\.json|added_tokens\.json|chat_template\.jinja|spiece\.model"
)


def cached(repo: str, revision: str | None) -> Path | None:
    """The snapshot folder of a repository in the hub's cache, when it holds a complete model; no network."""
    from huggingface_hub import constants

    if not (Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}").is_dir():
        return None  # without the imports of a download
    from huggingface_hub import snapshot_download

    try:
        snapshot = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=_CONFIGS))
    except (OSError, ValueError):  # not in the cache, or not a complete snapshot
        return None
    if (snapshot / "adapter_config.json").is_file():  # with a base model of its own, or alone
        complete = (snapshot / "adapter_model.safetensors").is_file()
        return snapshot if complete and (not (snapshot / "config.json").is_file() or _has_model(snapshot)) else None
    return snapshot if _has_model(snapshot) else None


def _has_model(snapshot: Path) -> bool:
    weights = any((snapshot / name).is_file() for name in (trust.WEIGHTS, trust.WEIGHTS_INDEX))
    return weights and (snapshot / "config.json").is_file()


def fetch(repo: str, revision: str | None, by_hand: Path) -> Path:
    """The snapshot folder of a repository, downloaded when the cache does not hold it.

    Args:
        by_hand: our folder for files placed by hand.

    Raises:
        NotAvailable: offline mode, no network, or no such repository.
        UntrustedModel: the repository has weights only in formats that are refused.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    snapshot = cached(repo, revision)
    if snapshot is not None:
        return snapshot
    advice = (
        "To work offline, place the model's config.json, model.safetensors, tokenizer.json and tokenizer_config.json "
        f"in {by_hand}, or run `hf download {repo}` on a machine with a network and copy its hub cache to "
        f"{constants.HF_HUB_CACHE} (HF_HOME moves it)."
    )
    if constants.HF_HUB_OFFLINE:
        raise NotAvailable(f"{repo} is not in the hub cache and HF_HUB_OFFLINE forbids fetching it. {advice}")
    try:
        # One plain request; the download below would retry for a minute.
        info = HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT, files_metadata=True)
        names = files_to_download(info.siblings or [], repo)
        # By the name of the revision, not by its commit: only then can the cache resolve the name offline.
        return Path(snapshot_download(repo, revision=revision, allow_patterns=names, etag_timeout=_TIMEOUT))
    except UntrustedModel:
        raise
    except Exception as error:  # the client's errors have no common base: they are those of httpx, httpx2 or requests
        lines = str(error).strip().splitlines()
        raise NotAvailable(
            f"{repo} cannot be fetched from the hub {constants.ENDPOINT} ({type(error).__name__}: "
            f"{lines[0][:200] if lines else 'no reason given'}). {advice}"
        ) from error


def files_to_download(siblings: list[Any], repo: str) -> list[str]:
    """The names of a repository's files that are downloaded: top level, known names, no code and no pickles."""
    top = [str(file.rfilename) for file in siblings if "/" not in str(file.rfilename)]
    names = [name for name in top if _SAFE_NAME.fullmatch(name)]
    if trust.WEIGHTS in names:  # a repository may hold a sharded copy beside the single file
        names = [name for name in names if name == trust.WEIGHTS or not name.startswith("model")]
    if not any(name.endswith(".safetensors") for name in names):
        others = [name for name in top if trust.is_refused_format(Path(name))]
        nothing = f"hub {repo} has no model.safetensors at its top level."
        raise UntrustedModel(trust.pickles(f"hub {repo}", others) if others else nothing)
    return names


def blob_hashes(snapshot: Path) -> dict[str, str]:
    """SHA-256 by file name where the hub cache has it: large files are links to blobs named by their SHA-256."""
    hashes = {}
    for path in snapshot.glob("*.safetensors"):
        name = Path(os.path.realpath(path)).name
        if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", name):
            hashes[path.name] = name
    return hashes


def commit(snapshot: Path) -> str:
    """The commit of a snapshot folder, which is its name."""
    return snapshot.name
