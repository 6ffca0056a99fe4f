"""Folders served on loopback as the Hugging Face Hub serves dataset repositories, each byte counted."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest


@dataclass
class LoopbackHub:
    """Repositories by id, what each refuses, and what was sent."""

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: dict[str, int] = field(default_factory=dict)  # status to refuse a repository's files with
    address: str = ""
    failing: dict[str, Callable[[Handler], None]] = field(default_factory=dict)  # instead of a file's contents
    sent: dict[str, int] = field(default_factory=dict)  # bytes of file contents by path in the repository
    requests: list[tuple[str, str]] = field(default_factory=list)

    def commit(self, repo: str) -> str:
        """The one commit of a repository, which depends on where it lies, so that caches of tests don't meet."""
        return hashlib.sha1(str(self.repositories[repo]).encode()).hexdigest()


@contextmanager
def serve(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """Serves on a free port until the context ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(monkeypatch: pytest.MonkeyPatch, address: str, caches: Path) -> None:
    """Lets the Hub's libraries ask this address, as HF_ENDPOINT does, and keep what they fetch in a folder."""
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(caches / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(caches / "assets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", caches / "datasets")


class Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/([^/]+))?(?:/([^/]+))?(?:/(.*))?", path):
            self._api(*found.groups(), body)
        else:
            self._refuse(404, "EntryNotFound")

    def _api(self, repo: str, verb: str | None, revision: str | None, path: str | None, body: bytes) -> None:
        if not self._known(repo, revision):
            return
        root = self.hub.repositories[repo]
        if verb == "auth-check":
            if repo in self.hub.gated:
                self._refuse(self.hub.gated[repo], "GatedRepo")
            else:
                self._json({})
        elif verb == "tree":
            folder = root / (path or "")
            if folder.is_dir():
                self._json([_entry(root, found) for found in sorted(folder.iterdir())])
            else:
                self._refuse(404, "EntryNotFound")
        elif verb == "paths-info":
            asked = parse_qs(body.decode())["paths"]
            self._json([_entry(root, root / name) for name in asked if (root / name).exists()])
        else:
            files = [found.relative_to(root).as_posix() for found in sorted(root.rglob("*")) if found.is_file()]
            self._json({"id": repo, "sha": self.hub.commit(repo), "siblings": [{"rfilename": f} for f in files]})

    def _file(self, repo: str, revision: str, name: str) -> None:
        if not self._known(repo, revision):
            return
        if repo in self.hub.gated:
            self._refuse(self.hub.gated[repo], "GatedRepo")
            return
        path = self.hub.repositories[repo] / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        size = path.stat().st_size
        etag = hashlib.sha1(f"{path} {size}".encode()).hexdigest()
        status, headers, start, stop = 200, {"Accept-Ranges": "bytes", "ETag": f'"{etag}"'}, 0, size
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
            start, stop = int(found[1]), min(int(found[2]) + 1, size)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            status = 206
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if self.command == "GET" and name in self.hub.failing:
            self.hub.failing[name](self)
            return
        if self.command == "GET":
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(data)
        self._send(status, data, {**headers, "X-Repo-Commit": self.hub.commit(repo)})

    def hang_up(self) -> None:
        """Ends the connection without an answer."""
        self.close_connection = True

    def fall_silent(self) -> None:
        """Keeps the connection, and says nothing until the other side ends it."""
        self.rfile.read(1)
        self.close_connection = True

    def break_down(self) -> None:
        """Answers that the server is out of order."""
        self._refuse(503, "")

    def _known(self, repo: str, revision: str | None) -> bool:
        if repo not in self.hub.repositories:
            self._refuse(401, "RepoNotFound")
        elif revision not in (None, "main", self.hub.commit(repo)):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _entry(root: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    return {"type": "file", "oid": "0" * 40, "size": path.stat().st_size, "path": name}
