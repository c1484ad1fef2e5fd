"""The web server: reads only, answers nobody that asks for another host, and tells browsers to load nothing else."""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.report.html import page_policy
from orz_monitor.serve.live import LiveReport

LOOPBACK: Final = "127.0.0.1"
_LONGEST_WAIT_S: Final = 15.0
"""For a request to arrive whole; who sends it slower is dropped."""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_HTML: Final = "text/html; charset=utf-8"


class ReportServer(ThreadingHTTPServer):
    """Serves one live report.

    Args:
        live: the report.
        host: address or name to bind to.
        port: 0 takes a free one.
        hosts: further names under which browsers may ask.

    Raises:
        UsageError: the address can't be bound to.
    """

    daemon_threads = True

    def __init__(self, live: LiveReport, *, host: str = LOOPBACK, port: int = 0, hosts: tuple[str, ...] = ()) -> None:
        self.live = live
        self.hosts = frozenset(name.lower().rstrip(".") for name in ("localhost", host, *hosts))
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__((str(address[0]), int(address[1])), _Handler)
        except OSError as error:
            message, remedy = _explained(error, host, port)
            raise UsageError(message, remedy=remedy) from error
        except OverflowError as error:
            raise UsageError(f"port {port}: ports are 0 to 65535", remedy="choose another with --port") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = str(self.server_address[0]), int(self.server_address[1])
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def may_ask(self, host: str | None) -> bool:
        """Tell whether a request's Host header names this server.

        A page of another site that had its name resolve to this machine would send that name. Numeric addresses can't
        be made to resolve elsewhere.
        """
        if not host:
            return False
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def service_actions(self) -> None:
        """End where the run can't be followed any more; called between requests."""
        self.live.raise_crash()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where a client has gone away."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ReportServer
    server_version = "orz-monitor"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _LONGEST_WAIT_S

    def do_GET(self) -> None:
        """Answer a request for something to read."""
        if not self.server.may_ask(self.headers.get("Host")):
            self._answer(
                HTTPStatus.MISDIRECTED_REQUEST,
                _TEXT,
                "this server is asked for under another name; if the name is yours, start it with --allow-host NAME\n",
            )
            return
        live = self.server.live
        match self.path.partition("?")[0]:
            case "/":
                self._answer(HTTPStatus.OK, _HTML, live.page())
            case "/body":
                self._answer(HTTPStatus.OK, _HTML, live.body())
            case "/state":
                self._answer(HTTPStatus.OK, _JSON, json.dumps(live.state()))
            case "/report.json":
                data = live.data()
                status = HTTPStatus.OK if data is not None else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, _JSON, data if data is not None else json.dumps(live.state()))
            case "/metrics":
                self._answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", live.metrics())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, _TEXT, "there are / and /metrics, /report.json, /state, /body\n")

    do_HEAD = do_GET

    def _refuse(self) -> None:
        """Answer a request to change something."""
        self.close_connection = True  # its body is not read
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, "this server only reads\n", Allow="GET, HEAD")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _answer(self, status: HTTPStatus, kind: str, body: str | bytes, **headers: str) -> None:
        """Send an answer."""
        sent = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        policy = page_policy(live=True) if kind == _HTML else "default-src 'none'"
        every = _HEADERS | headers | {"Content-Type": kind, "Content-Length": str(len(sent))}
        every["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
        for name, value in every.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep requests out of the terminal."""


def _explained(error: OSError, host: str, port: int) -> tuple[str, str]:
    """Return what is wrong with an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use", "choose another with --port, or --port 0 for any that is free"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"port {port} on {host} may not be bound to", "ports from 1024 on need no privileges"
    return f"{host}, port {port}: can't be bound to: {error.strerror or error}", "check --host and --port"
