"""What every request must pass and every answer carries: host names, the token, headers that forbid foreign content."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evo.errors import UsageError

LOOPBACK = "127.0.0.1"
COOKIE = "evo_token"
LEAST_TOKEN = 16  # characters
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may look. ``host``: the address that is listened at; ``token``: what a browser must show, empty for nothing.

    ``names``: further host names by which the page may be asked for.
    """

    host: str = LOOPBACK
    token: str = ""
    names: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Raises UsageError for an address that others reach, without a token, and for a token that can be guessed."""
        if not self.token and not _is_loopback(self.host):
            raise UsageError(f"--host {self.host}: others reach this address; ask them for a token, with --token")
        if self.token and (len(self.token) < LEAST_TOKEN or not self.token.isascii() or not self.token.isprintable()):
            raise UsageError(
                f"--token: must have at least {LEAST_TOKEN} characters, ASCII alone; for example: openssl rand -hex 16"
            )

    def admits_host(self, header: str) -> bool:
        """Whether the page may be asked for by that name: else another site's name could be made to lead here."""
        name = _host_name(header)
        if name in ("localhost", self.host.casefold(), *self.names):
            return True
        if not self.token:
            return _is_loopback(name)
        own = {socket.gethostname().casefold(), socket.getfqdn().casefold()}
        return _is_address(name) or name in own

    def admits_token(self, shown: str) -> bool:
        """Whether what was shown is the token, or none is wanted."""
        return not self.token or hmac.compare_digest(shown.encode(errors="replace"), self.token.encode())


class Guard:
    """Refuses what may not be answered, and puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp, access: Access):
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                kept = [(n, v) for n, v in message.get("headers", ()) if n.decode().lower() not in HEADERS]
                message = {**message, "headers": [*kept, *ours]}
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send_guarded, 405, "this page is for reading alone")
        elif not self._access.admits_host(headers.get("host", "")):
            await _answer(send_guarded, 421, "this page is not to be asked for by that host name")
        elif self._access.admits_token(_shown_token(headers)):
            await self._app(scope, receive, send_guarded)
        else:
            await self._let_in(scope, send_guarded)

    async def _let_in(self, scope: Scope, send: Send) -> None:
        """Take the token from the address into a cookie, so that it stands in no history; refuse where it is wrong."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in query if name == "token"), "")
        if not (shown and self._access.admits_token(shown)):
            await _answer(send, 401, "open the address that evo serve printed: it ends in ?token= and the token")
            return
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + scope["path"].lstrip("/\\").encode("ascii", "ignore").decode()
        cookie = f"{COOKIE}={shown.encode().hex()}; Path=/; HttpOnly; SameSite=Strict"
        place = "".join(c for c in path if c.isalnum() or c in "/-_.") + (f"?{rest}" if rest else "")
        await _answer(send, 303, "", {"location": place, "set-cookie": cookie})


def _shown_token(headers: MutableMapping[str, str]) -> str:
    """The token of the cookie, or of an ``Authorization: Bearer`` header."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        return bytes.fromhex(morsel.value).decode() if morsel else ""
    except (CookieError, ValueError):
        return ""


async def _answer(send: Send, status: int, text: str, headers: dict[str, Any] | None = None) -> None:
    values = {"content-type": "text/plain; charset=utf-8", **(headers or {})}
    listed = [(name.encode(), value.encode("latin-1")) for name, value in values.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": f"{text}\n".encode() if text else b""})


def _host_name(header: str) -> str:
    """The name or address in a ``Host`` header, without its port."""
    text = header.strip().casefold()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def host_names(names: Iterable[str]) -> frozenset[str]:
    """Host names as they are compared."""
    return frozenset(name.casefold() for name in names)
