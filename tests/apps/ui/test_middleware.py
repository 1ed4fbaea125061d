"""Requests to the page: host names, sizes of bodies, unknown functions; exit codes; with gradio where it is
installed.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from latentdiff.apps.ui import server
from latentdiff.apps.ui.limits import BODY, UPLOAD
from latentdiff.apps.ui.middleware import RequestFilter, host_names, is_known
from latentdiff.apps.ui.request import error_html
from latentdiff.errors import InputError

JSON = "/gradio_api/queue/join"


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body, answers with its size, and knows all paths but /unknown."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/unknown":
        raise KeyError(9999)
    if scope["path"] == "/wrapped":
        raise OSError("no such thing")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def request(
    path: str = "/", *, host: str = "127.0.0.1:7860", chunks: tuple[bytes, ...] = (b"",), **headers: str
) -> tuple[int, Any]:
    """The status and the body that a filtered `reads_all` answers with."""
    answers: list[Any] = []
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": k < len(chunks) - 1}
        for k, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    named = [
        (b"host", host.encode()),
        *((key.replace("_", "-").encode(), v.encode()) for key, v in headers.items()),
    ]
    app = RequestFilter(reads_all, host_names("127.0.0.1"), (LookupError,))
    asyncio.run(app({"type": "http", "path": path, "headers": named}, receive, send))
    return answers[0]["status"], answers[1]["body"]


@pytest.mark.parametrize(
    ("header", "known"),
    [
        *(
            (name, True)
            for name in ("127.0.0.1", "localhost:7860", "LOCALHOST.", "[::1]:80", "192.168.1.5:7860")
        ),
        *(
            (name, False)
            for name in ("", "evil.example", "evil.example:7860", "localhost:x", "127.0.0.1.evil.example")
        ),
    ],
)
def test_only_addresses_and_own_names_are_known(header: str, known: bool) -> None:
    assert is_known(header, host_names("127.0.0.1")) is known
    assert request(host=header)[0] == (200 if known else 421)


def test_names_of_a_proxy_and_of_this_machine_are_added() -> None:
    assert is_known("draw.example:443", host_names("0.0.0.0", ["Draw.example"]))
    assert not is_known("draw.example", host_names("0.0.0.0"))
    assert not {"0.0.0.0", "::", ""} & host_names("0.0.0.0")
    assert is_known(os.uname().nodename, host_names("0.0.0.0"))
    assert not is_known("a-machine", host_names("127.0.0.1"))


@pytest.mark.parametrize(
    ("path", "limit"), [(JSON, BODY), ("/gradio_api/upload", UPLOAD + 2**16), ("/uploads", BODY)]
)
def test_bodies_end_at_the_limit(path: str, limit: int) -> None:
    half = limit // 2
    assert request(path, chunks=(b"a" * half, b"a" * (limit - half))) == (200, str(limit).encode())
    assert request(path, chunks=(b"a" * half, b"a" * (limit - half), b"a"))[0] == 413  # nobody announced it
    assert request(path, content_length=str(limit))[0] == 200
    for length in (str(limit + 1), "-1", "1e9", "x"):
        assert request(path, content_length=length)[0] == 413


def test_unknown_functions_are_not_found_and_other_errors_stay_errors() -> None:
    status, body = request("/unknown")
    assert (status, json.loads(body)["detail"]) == (404, "the page has no such function")
    with pytest.raises(OSError, match="no such thing"):
        request("/wrapped")


def test_errors_name_no_folders_of_this_machine(tmp_path: Path) -> None:
    shown = error_html(
        InputError(f"{tmp_path}/runs/a/vae/config.json: damaged, expected /home/me/other.json, see runs/b")
    )
    assert (
        shown.endswith("config.json: damaged, expected …/other.json, see runs/b")
        and str(tmp_path) not in shown
    )
    assert error_html(InputError(f"{Path.cwd()}/runs/a: damaged")) == "runs/a: damaged"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_page_with_their_code(
    signum: int, cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Page:
        def close(self, verbose: bool) -> None:
            closed.append(verbose)

    def started(*_: Any, **given: Any) -> Page:
        assert given["names"] == ("draw.example",)
        threading.Timer(0.1, os.kill, (os.getpid(), signum)).start()
        return Page()

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(server, "check_installed", lambda: None)
    monkeypatch.setattr(server, "serve", started)
    try:
        result = cli("ui --port 18231 --allow-host draw.example", cwd=tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.code, closed) == (128 + signum, [False]) and "ended" in result.err


@pytest.mark.slow
def test_the_real_page_keeps_to_it(tmp_path: Path) -> None:
    """The server itself: bodies, hosts, functions that do not exist, files it may not read, SIGTERM."""
    pytest.importorskip("gradio")
    port = 18232
    page = subprocess.Popen(
        [sys.executable, "-m", "latentdiff", "ui", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def request(path: str, body: bytes | None = None, host: str = f"127.0.0.1:{port}") -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Host": host, "Content-Type": "application/json"}
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def call(function: str, data: object) -> str:
        event = json.loads(request(f"/gradio_api/call/{function}", json.dumps({"data": data}).encode())[1])[
            "event_id"
        ]
        return request(f"/gradio_api/call/{function}/{event}")[1]

    try:
        assert page.stdout is not None and page.stdout.readline().startswith("http://")
        assert request("/config")[0] == 200
        assert request("/config", host="rebound.example")[0] == 421
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
            for index in (9999, -1):
                found = request(
                    path, json.dumps({"data": [], "fn_index": index, "session_hash": "a"}).encode()
                )
                assert 400 <= found[0] < 500, (path, index, found)
        assert request("/gradio_api/call/nothing", b'{"data": []}')[0] == 404
        with suppress(BrokenPipeError, ConnectionResetError):  # refused while the body is still on its way
            assert request(JSON, b"a" * (BODY + 1))[0] == 413
        assert request(JSON, b"[" * 10**5)[0] in (400, 422)
        for function, data in (
            ("read", ["/etc/passwd"]),
            ("drawn", [1]),
            ("read", [{"path": "/etc/passwd"}]),
        ):
            status = call(function, data)
            assert "error" in status and "/" not in status.replace("event: error", ""), status
        time.sleep(0.5)
    finally:
        page.send_signal(signal.SIGTERM)
        page.communicate(timeout=60)
    assert page.returncode == 143
