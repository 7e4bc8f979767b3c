"""The page: its tabs, and the server that shows it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.demo.networks import DemoInpainter, DemoModel

_MEBIBYTE = 2**20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EXPIRY = (600, 7200)  # seconds: how often uploads are looked through, and how old they may become


@contextmanager
def serving(
    models: Sequence[DemoModel],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    max_upload_megabytes: float = 32,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[str]:
    """Shows the page while the block runs, and yields its address. All uploads and results are removed at the end.

    Args:
        models: a tab for each.
        host: name or address to listen on; only that of this machine itself keeps others out.
        port: 0 for any that is free.
        max_upload_megabytes: MiB that a file may have.
        max_pixels: largest width * height of a file; looked at before it is decoded.

    Raises:
        ValueError: an argument is out of range, or nothing can listen there.
        ImportError: Gradio is not installed.
    """
    if not models:
        raise ValueError("models must be one or more, got none.")
    if not max_upload_megabytes > 0:
        raise ValueError(f"max_upload_megabytes must be more than 0, got {max_upload_megabytes}.")
    with _listening(host, port) as listener, _temporary_folder() as folder:
        app = _application(models, folder, host, max_upload_megabytes, max_pixels)
        import uvicorn

        # Errors are in the page; an open page keeps a connection for as long as it is open.
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="page")
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                time.sleep(0.02)
            if not server.started:
                raise ValueError("the page could not be started; --verbose shows why.")
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}/"
        finally:
            # An open page's connection is cut, which is no error now.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            server.should_exit = True
            thread.join()


def check_library() -> None:
    """Raises ImportError, with the extra that brings it, where Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("the page needs Gradio, for Python 3.10 and newer: pip install 'attennorm_tf[demo]'.")


def _application(models: Sequence[DemoModel], folder: Path, host: str, megabytes: float, max_pixels: int) -> Any:
    check_library()
    # Read when Gradio is imported or its parts are made: nothing is sent to anyone, and all files lie in one folder.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder), HF_HUB_OFFLINE="1",
                      HF_HUB_DISABLE_TELEMETRY="1")  # fmt: skip
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:
        # Another site's script could otherwise reach the page by a name of its own that leads to this machine.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "["])  # [: of [::1]
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return gr.mount_gradio_app(
        app, _blocks(models, folder, max_pixels), path="", max_file_size=int(megabytes * _MEBIBYTE), ssr_mode=False,
        run_history=False, footer_links=[], theme=_theme(), css=css,
        show_error=True, enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip


def _theme() -> Any:
    import gradio as gr

    # No typeface but the system's own.
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    )


def _blocks(models: Sequence[DemoModel], folder: Path, max_pixels: int) -> Any:
    import gradio as gr

    from attennorm_tf.demo.generation_tab import GenerationTab
    from attennorm_tf.demo.inpainting_tab import InpaintingTab

    kinds = ["Inpaint" if isinstance(model, DemoInpainter) else "Generate" for model in models]
    with gr.Blocks(title="attennorm_tf", analytics_enabled=False, delete_cache=_EXPIRY, fill_width=True) as blocks:
        gr.HTML(
            '<div class="title"><h1>Attentive normalization</h1>'
            "<p>Conditional image generation with layouts that are learned.</p></div>"
        )
        for index, (model, kind) in enumerate(zip(models, kinds)):
            number = kinds[: index + 1].count(kind)
            prefix = kind.lower() + (f"-{number}" if number > 1 else "")
            with gr.Tab(f"{kind} {number}" if kinds.count(kind) > 1 else kind, id=prefix):
                if isinstance(model, DemoInpainter):
                    InpaintingTab(model, folder, max_pixels, prefix)
                else:
                    GenerationTab(model, prefix)
    return blocks


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="attennorm-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(found[4][:2], family=found[0], backlog=128)
    except OSError as error:
        raise ValueError(
            f"nothing can listen on {host}, port {port}: {error.strerror or error}; choose another with --host and "
            "--port, where 0 is any that is free."
        ) from error
    with listener:
        yield listener
