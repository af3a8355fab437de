"""A session with a hub of its own, run as a script by ``test_hub.py``: ``python hub_session.py MODEL_DIRECTORY``.

The hub serves one repository, org/name, from the directory. The session loads it, loads it again with the hub gone,
finds a damaged file, and meets a hub that does not answer. It is a process of its own because the client reads the
hub's address once.
"""

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}


def large(name: str) -> bool:
    """Whether the hub stores the file outside git, by its SHA-256."""
    return name.endswith((".safetensors", ".bin"))


def etag(name: str) -> str:
    return (hashlib.sha256 if large(name) else hashlib.sha1)(FILES[name]).hexdigest()


def tree_entry(name: str) -> dict:
    entry: dict = {"type": "file", "path": name, "size": len(FILES[name]), "oid": hashlib.sha1(FILES[name]).hexdigest()}
    if large(name):
        entry["lfs"] = {"oid": etag(name), "size": len(FILES[name]), "pointerSize": 134}
    return entry


class Hub(BaseHTTPRequestHandler):
    """The three kinds of requests that the client makes: about the repository, its tree, and one file."""

    def log_message(self, *_):
        """Keep stderr for errors."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/org/name/tree/{COMMIT}"):
            self.answer(json.dumps([tree_entry(name) for name in FILES]).encode())
        elif path in {"/api/models/org/name", "/api/models/org/name/revision/main"}:
            siblings = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            name = path.rsplit("/", 1)[1]
            self.answer(FILES[name], ETag=f'"{etag(name)}"', X_Repo_Commit=COMMIT)
        else:
            self.send_error(404)

    def answer(self, body: bytes, **headers: str):
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    from huggingface_hub import snapshot_download

    from workbench.errors import NotAvailable, UntrustedModel
    from workbench.models import sources

    online = sources.resolve("org/name")
    print(json.dumps(online.provenance))

    server.shutdown()
    server.server_close()
    offline = sources.resolve("org/name")
    assert offline.provenance == online.provenance

    snapshot = Path(snapshot_download("org/name", local_files_only=True, allow_patterns=["config.json"]))
    weights = (snapshot / "model.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    try:
        sources.resolve("org/name")
    except UntrustedModel as error:
        print(error)

    try:
        sources.resolve("org/other")
    except NotAvailable as error:
        print(error)


if __name__ == "__main__":
    main()
