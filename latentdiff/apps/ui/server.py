"""The page on a port of this machine, without a call to any other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from threading import Thread
from typing import Any

from latentdiff.apps.ui.limits import UPLOAD, WAITING
from latentdiff.apps.ui.middleware import RequestFilter, host_names
from latentdiff.apps.ui.service import PageService
from latentdiff.errors import InputError, pip_install


def check_installed() -> None:
    """InputError where gradio is missing."""
    if find_spec("gradio") is None:
        raise InputError(f"the page needs gradio, which is not installed: {pip_install('ui')}")


def check_port(host: str, port: int) -> None:
    """InputError unless ``host`` and ``port`` can be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            with suppress(OSError):
                # as the server does: closed connections may linger
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"{host}:{port}: cannot be listened on ({error.strerror or error}); --port takes another"
        ) from None


def serve(
    service: PageService,
    *,
    host: str,
    port: int,
    folder: str,
    browser: bool = False,
    names: Iterable[str] = (),
) -> Any:
    """Start the page and return it, running; ``folder`` takes its temporary files.

    ``names``: host names under which it answers, beside those of this machine. InputError where the port is
    taken.
    """
    check_installed()
    check_port(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ["GRADIO_TEMP_DIR"] = folder
    import gradio as gr
    from gradio.route_utils import FnIndexInferError
    from starlette.middleware import Middleware

    from latentdiff.apps.ui.page import CONTRAST, CSS, FONTS, MONO, page

    Thread(target=service.draw_opening, name="opening", daemon=True).start()
    allowed = Middleware(
        RequestFilter, names=host_names(host, names), lookup_errors=(LookupError, FnIndexInferError)
    )
    blocks = page(service).queue(max_size=WAITING, default_concurrency_limit=4)
    blocks.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,  # gr.Error is shown in any case; other errors hold paths of this machine
        app_kwargs={"middleware": [allowed]},
        max_file_size=UPLOAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=FONTS, font_mono=MONO).set(**CONTRAST),
        css=CSS,
    )
    return blocks
