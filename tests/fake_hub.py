"""The few endpoints of the Hugging Face Hub that publishing and reading use, on this machine."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

REPOSITORY = "/datasets/ORG/NAME"


class Hub(ThreadingHTTPServer):
    """One data set repository, its commits, and the large files that were uploaded."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.lfs: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.requests: list[str] = []
        self.created: list[dict[str, object]] = []
        self.failures = 0
        """Commits that fail with 503 before one succeeds."""

    def entry(self, name: str) -> dict[str, object]:
        """Describe a file as the Hub does: large ones by sha256, others by git's hash."""
        data = self.files[name]
        blob = hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()
        lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return {
            "type": "file",
            "path": name,
            "size": len(data),
            "oid": blob,
            **({"lfs": lfs} if is_large(name) else {}),
        }

    def commit(self, lines: bytes) -> None:
        """Apply a commit, all of it."""
        changes = [json.loads(line) for line in lines.splitlines()]
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                self.files[value["path"]] = self.lfs[value["oid"]]
            elif change["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits.append([f"{each['key']} {each['value']['path']}" for each in changes if each["key"] != "header"])


def is_large(name: str) -> bool:
    return name.endswith((".tar", ".parquet"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def handle_request(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.requests.append(f"{self.command} {path}")
        if path == "/api/repos/create":
            hub.created.append(json.loads(body))
            self._json({"url": f"{hub.url}{REPOSITORY}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not hub.created and path.startswith(f"/api{REPOSITORY}"):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"/api{REPOSITORY}/tree/main"):
            self._json([hub.entry(name) for name in sorted(hub.files)])
        elif path == f"/api{REPOSITORY}/preupload/main":
            modes = [
                (each["path"], "lfs" if is_large(each["path"]) else "regular") for each in json.loads(body)["files"]
            ]
            self._json({"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]})
        elif path == f"{REPOSITORY}.git/info/lfs/objects/batch":
            self._json({"transfer": "basic", "objects": [self._lfs(each) for each in json.loads(body)["objects"]]})
        elif path.startswith("/upload/"):
            hub.lfs[path.rpartition("/")[2]] = body
            self._answer(200, b"", {})
        elif path == f"/api{REPOSITORY}/commit/main" and hub.failures:
            hub.failures -= 1
            self._answer(503, b"{}", {})
        elif path == f"/api{REPOSITORY}/commit/main":
            hub.commit(body)
            self._json(
                {"commitUrl": f"{hub.url}{REPOSITORY}/commit/{'0' * 40}", "commitOid": "0" * 40, "pullRequestUrl": None}
            )
        elif path in (f"/api{REPOSITORY}", f"/api{REPOSITORY}/revision/main"):
            self._json(
                {
                    "id": "ORG/NAME",
                    "sha": "0" * 40,
                    "private": True,
                    "siblings": [],
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }
            )
        elif path == f"/api{REPOSITORY}/paths-info/main":
            self._json([hub.entry(name) for name in re.findall(r"[^&=]+", unquote(body.decode())) if name in hub.files])
        elif path.startswith(f"{REPOSITORY}/resolve/main/") and (name := path.partition("/main/")[2]) in hub.files:
            self._file(hub.files[name])
        else:
            self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_GET = do_POST = do_PUT = do_HEAD = handle_request  # noqa: N815

    def _lfs(self, wanted: dict[str, object]) -> dict[str, object]:
        if wanted["oid"] in self.server.lfs:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.server.url}/upload/{wanted['oid']}", "header": {}}}}

    def _file(self, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"ETag": '"x"', "X-Repo-Commit": "0" * 40}
        if found:
            start, end = int(found[1]), int(found[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            self._answer(206, data[start : end + 1], headers)
        else:
            self._answer(200, data, headers)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_here(monkeypatch):
    """Serve an empty Hub and let the library talk to it."""
    from huggingface_hub import HfFileSystem, constants

    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    HfFileSystem.clear_instance_cache()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
