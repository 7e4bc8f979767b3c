"""What attennorm-demo says where it cannot show a page; the page itself is in tests/demo."""

from __future__ import annotations

import importlib.util
import socket
from typing import Any

import pytest

from attennorm_tf.demo import page
from tests.processes import run_module


def test_a_model_is_needed() -> None:
    done = run_module("attennorm_tf.cli.demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "error: --model is needed: a run, a checkpoint, a SavedModel's folder or a server's address.\n"
    )


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def found(name: str, *rest: Any) -> Any:
        return None if name == "gradio" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    with pytest.raises(ImportError, match=r"the page needs Gradio, .* pip install 'attennorm_tf\[demo\]'\.$"):
        page.check_library()


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                ValueError, match=f"^nothing can listen on 127.0.0.1, port {port}: .*; choose another with --"
            ),
            page._listening("127.0.0.1", port),
        ):
            pass
    with (
        pytest.raises(ValueError, match=r"^nothing can listen on 192\.0\.2\.1, port 0: "),
        page._listening("192.0.2.1", 0),
    ):
        pass


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [([], {}, "models must be one or more"), ([None], {"max_upload_megabytes": 0.0}, "max_upload_megabytes must be")],
)
def test_arguments_out_of_range(models: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message), page.serving(models, **options):
        pass
