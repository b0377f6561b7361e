"""Data sets to publish, an S3 server on this machine, and a proxy before it that fails as networks do."""

import http.client
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
from PIL import Image
from programs import succeed

BUCKET = "bucket"


def make_people(people: Path, folder: Path) -> Path:
    """Copy people, and give each image a parsing map of noise."""
    shutil.copytree(people, folder)
    generator = np.random.default_rng(1)
    for image in sorted((folder / "images").rglob("*.jpg")):
        path = folder / "parsing" / image.relative_to(folder / "images").with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 20, (32, 16), dtype=np.uint8)).save(path)
    return folder


def generate(recipe: str, people: Path, root: Path, *options: object) -> Path:
    """Make a data set as users do."""
    succeed("gen-captions", recipe, people / "images", "--out", root, "--shard-size", 20, *options)
    return root


def make_finegpr(people: Path, root: Path) -> Path:
    """Make FineGPR-C with parsing maps, in four shards."""
    return generate(
        *("finegpr-c", people, root, "--attributes", people / "attributes.csv", "--parsing", people / "parsing"),
        *("--lambda", "0.8"),
    )


class Proxy(ThreadingHTTPServer):
    """Hands requests on, but for those that `fault` names: `503`, or `drop`, amid the body that is sent or answered."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], str | None] = lambda method, path: None

    def fail(self, what: str, method: str, part: str, times: int = 1) -> None:
        """Let the next requests of `method` whose path holds `part` fail, so many times."""
        left = [times]

        def fault(got_method: str, path: str) -> str | None:
            if got_method == method and part in path and left[0] > 0:
                left[0] -= 1
                return what
            return None

        self.fault = fault

    def put(self) -> list[str]:
        """Name what was uploaded through here, in order."""
        return [path.removeprefix(f"/{BUCKET}/") for method, path in self.requests if method == "PUT"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_request(self) -> None:
        self.server.requests.append((self.command, self.path))
        fault = self.server.fault(self.command, self.path)
        if fault == "drop" and self.command == "PUT":
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        if fault == "503":
            self._answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        data = answer.read()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding")
        }
        if fault == "drop":
            self._answer(answer.status, kept | {"Content-Length": str(len(data))}, data[: len(data) // 2])
            self.close_connection = True
            self.connection.close()
            return
        self._answer(answer.status, kept, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        if "Content-Length" not in headers and self.command != "HEAD":
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def s3_behind_proxy(set_variable):
    """Serve an empty bucket behind a proxy; `set_variable(name, value)` tells clients, through the environment."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # which would go on talking to the server of an earlier test
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    proxy = Proxy(port)
    Thread(target=proxy.serve_forever, daemon=True).start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        set_variable(name, value)
    for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{BUCKET}")):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(method, path)
        assert connection.getresponse().status == 200
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()  # or later requests would wait for ever instead of failing
        server.stop()
