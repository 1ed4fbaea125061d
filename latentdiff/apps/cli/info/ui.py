"""`latentdiff ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import cli_command, device_option, run_options


@cli_command("ui", "latentdiff ui", "latentdiff ui --run runs/NAME --port 8000 --open", title="Server")
@run_options("Run or checkpoint that is selected first (default: the newest run with a denoiser).")
@option(
    "--host",
    default="127.0.0.1",
    help="Address of the server; 0.0.0.0 makes the page reachable from other machines.",
)
@option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    advanced=True,
    help="Another host name of the page, such as that of a proxy; repeatable (default: none).",
)
@option("--port", type=click.IntRange(1, 65535), default=7860, help="Port of the server.")
@option("--open/--no-open", "browser", default=False, help="Open the page in a browser.")
@device_option
def command(*, as_json: bool, **values: Any) -> int:
    """Draw, watch, compare and edit on a page in the browser.

    Serves until Ctrl-C, on this machine alone unless --host is given. Accepted host names are IP addresses,
    the machine's name and those of --allow-host. Needs gradio: pip install "gradio>=6.31,<7"
    """
    import signal
    import tempfile
    from threading import Event

    from latentdiff.apps.cli.shared.progress import note, note_loading, result

    note_loading()
    from latentdiff.apps.cli.shared.find import HOW_TO
    from latentdiff.apps.ui.middleware import LOCAL
    from latentdiff.apps.ui.models import ModelList
    from latentdiff.apps.ui.server import check_installed, check_port, serve
    from latentdiff.apps.ui.service import PageService
    from latentdiff.errors import InputError
    from latentdiff.parallel.device import resolve_device

    check_installed()
    check_port(values["host"], values["port"])
    models = ModelList(Path(values["runs"]), run=values["run"], device=resolve_device(values["device"]))
    if not models.names():
        raise InputError(f"no trained model in {values['runs']}/; {HOW_TO}")
    if values["host"] not in LOCAL:
        note(f"listening on {values['host']}: everybody who reaches this machine can use the page")
    ended = Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="latentdiff-ui-") as folder:
        service = PageService(models, Path(folder))
        blocks = serve(
            service,
            host=values["host"],
            port=values["port"],
            folder=folder,
            browser=values["browser"],
            names=values["names"],
        )
        url = f"http://{values['host']}:{values['port']}"
        result({"url": url, "models": models.names()}, as_json=as_json, text=f"{url} (Ctrl-C ends it)")
        code = 128 + signal.SIGTERM
        try:
            ended.wait()
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        service.close()
        blocks.close(verbose=False)
        note("ended")
    return code
