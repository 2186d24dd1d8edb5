"""The page behind an HTTP server of its own: what it may load, who may ask it, and where uploads lie meanwhile."""

from __future__ import annotations

import os
import socket
import webbrowser
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from clients.extras import require
from clients.web.sessions import Sessions, private_folder

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST_UPLOAD = "1gb"  # half an hour of video
_LAST_ANSWERS_S = 3  # for answers on their way when the command ends
_HOSTS = ["127.0.0.1", "localhost", "[::1]", "::1"]

# The browser itself makes sure that nothing is fetched from or sent to any other place. Gradio builds its page from
# inline scripts and styles and from compiled templates.
_POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "object-src 'none'",
    )
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
}


class Site:
    """The page, ready to be served; what its users left behind is removed at the end of `with`.

    Args:
        server: what the clients' constructors take: where the server is, and how it is spoken to.
        examples: folder with the demonstration's samples to offer; may be absent.
        host: address that is listened on, by which the page may be asked for beside this machine's usual names.
        public: other machines may ask, under whatever name they know this one by.
        debug: let the web server say what goes wrong within it.
    """

    def __init__(
        self,
        server: Mapping[str, Any],
        *,
        examples: Path,
        host: str = "127.0.0.1",
        public: bool = False,
        debug: bool = False,
    ) -> None:
        self._server, self._examples, self._debug = server, examples, debug
        self._hosts = ["*"] if public else [*_HOSTS, host]

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            folder = stack.enter_context(private_folder())
            # Gradio reads these when it is imported and when components are made.
            os.environ |= {
                "GRADIO_TEMP_DIR": str(folder),
                "GRADIO_ANALYTICS_ENABLED": "False",
                "HF_HUB_OFFLINE": "1",
            }
            self._app = self._make(Sessions(folder))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def serve(self, listening: socket.socket, *, opened: str | None = None) -> None:
        """Answer until Ctrl-C or SIGTERM.

        Args:
            listening: the socket.
            opened: address to open in the browser; None opens none.
        """
        import uvicorn

        # No access log: it would name what people upload. And a second Ctrl-C is no error, which uvicorn takes it for.
        config = uvicorn.Config(
            self._app,
            log_level="error" if self._debug else "critical",
            access_log=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,  # open pages hold a connection for as long as they are open
        )
        if opened is not None:
            webbrowser.open(opened)  # the socket listens already, so the browser only waits
        with suppress(KeyboardInterrupt):  # how uvicorn hands Ctrl-C on, once it has stopped
            uvicorn.Server(config).run(sockets=[listening])

    def _make(self, sessions: Sessions) -> FastAPI:
        gradio = require("gradio")
        from fastapi import FastAPI
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from clients.web.asking import Asking
        from clients.web.page import SCRIPT, STYLE, build_page, theme

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        # Another name than ours is another page's, made to lead to this machine (DNS rebinding).
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=self._hosts)
        app.add_middleware(_OwnPageAlone)
        app.add_middleware(_Headers)
        page = build_page(Asking(self._server, sessions), self._examples)
        gradio.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=[],
            run_history=False,  # it would keep inputs and answers in the browser
            show_error=False,
            max_file_size=LARGEST_UPLOAD,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css_paths=STYLE,
            js=SCRIPT.read_text(encoding="utf-8"),
        )
        return app


class _OwnPageAlone:
    """ASGI middleware: what another site's page lets a visitor's browser send, such as uploads, is refused."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what reads, and what our own page or no page at all sends; browsers say themselves which it is."""
        from starlette.responses import PlainTextResponse

        reads = scope["type"] != "http" or scope["method"] in ("GET", "HEAD")
        origin = b"none" if reads else dict(scope["headers"]).get(b"sec-fetch-site", b"none")
        refusal = PlainTextResponse("Only the page itself may send", status_code=403)
        await (self._app if origin in (b"none", b"same-origin") else refusal)(scope, receive, send)


class _Headers:
    """ASGI middleware: every answer says what the page may do."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on, with the headers added to the start of each answer."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in _HEADERS]
                message["headers"] = [*kept, *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)
