"""Which HTTP requests reach the page: those to its own host names, with a body of a size it can use."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import ip_address
from typing import Any

from latentdiff.apps.ui.limits import BODY, UPLOAD

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::", "")
MULTIPART = 64 * 2**10  # bytes of an upload's headers and boundaries beside the file


class RefusedRequest(Exception):
    """A request that is answered with ``status`` and one line."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def host_names(host: str, others: Iterable[str] = ()) -> frozenset[str]:
    """The names, in lower case, under which the page on ``host`` answers.

    This machine's own name is among them where the page is open to others.
    """
    names = {*LOCAL, host, *others}
    if host not in LOCAL:
        names |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower().rstrip(".") for name in names if name not in EVERY_ADDRESS)


def is_known(header: str, names: frozenset[str]) -> bool:
    """Whether a Host header is an IP address or one of ``names``, with any port.

    A website that points its own name at this machine (DNS rebinding) sends that name; an address cannot be
    rebound.
    """
    name, bracket, _ = header.strip().lower().removeprefix("[").partition("]")
    if not bracket:
        name, _, port = name.partition(":")
        if port and not port.isdecimal():
            return False
    try:
        ip_address(name)
    except ValueError:
        return name.rstrip(".") in names
    return True


class RequestFilter:
    """ASGI middleware that refuses unknown hosts and large bodies, and answers unknown functions with 404."""

    def __init__(self, app: App, names: frozenset[str], lookup_errors: tuple[type[Exception], ...]) -> None:
        self._app, self._names, self._lookup_errors = app, names, lookup_errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
            if not is_known(headers.get(b"host", ""), self._names):
                raise RefusedRequest(
                    421, "unknown host name; --allow-host NAME lets the page answer under it"
                )
            limit = UPLOAD + MULTIPART if scope["path"].rstrip("/").endswith("/upload") else BODY
            await self._app(scope, _limited(receive, limit, headers.get(b"content-length")), sent)
        except Exception as error:
            refused = _refused(error, self._lookup_errors)
            if refused is None or started:
                raise
            await _answer(send, refused)


def _limited(receive: Receive, limit: int, length: str | None) -> Receive:
    """``receive`` that raises RefusedRequest once more than ``limit`` bytes are announced or have come."""
    if length is not None and (not length.isdecimal() or int(length) > limit):
        raise RefusedRequest(413, f"a body of {length} bytes, expected at most {limit}")
    found = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal found
        message = await receive()
        found += len(message.get("body", b""))
        if found > limit:
            raise RefusedRequest(413, f"a body of more than {limit} bytes")
        return message

    return counted


def _refused(error: BaseException, lookup_errors: tuple[type[Exception], ...]) -> RefusedRequest | None:
    """The refusal behind an exception, also where the application wrapped it in others."""
    if isinstance(error, lookup_errors):
        return RefusedRequest(404, "the page has no such function")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RefusedRequest):
        cause = cause.__cause__ or cause.__context__
    return cause


async def _answer(send: Send, refused: RefusedRequest) -> None:
    body = json.dumps({"detail": refused.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
