"""Addresses of models on TensorFlow Serving servers."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

_SCHEMES = {"grpc": ("grpc", False), "grpcs": ("grpc", True), "http": ("rest", False), "https": ("rest", True)}


class Address(NamedTuple):
    """server, protocol and tls as `ServingClient` takes them; model, version and label where the address names them."""

    server: str
    protocol: str
    tls: bool
    model: str | None = None
    version: int | None = None
    label: str | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of a client, but for the model."""
        return {
            "server": self.server, "protocol": self.protocol, "tls": self.tls, "version": self.version,
            "label": self.label,
        }  # fmt: skip


def is_address(place: str) -> bool:
    """Whether it begins like one of a server."""
    return "://" in place


def parse_address(text: str) -> Address:
    """Reads an address.

        grpc://host:port, grpcs://host:port (encrypted)
        http://host:port, https://host:port, with a path before /v1 where the server has one

    and behind it, if one model is meant, /v1/models/NAME, and then, if one version is, /versions/3 or /labels/stable.

    Raises:
        ValueError: it is none; the message shows what one looks like.

    Example:
        >>> parse_address("grpc://127.0.0.1:8500/v1/models/facades/versions/3").version
        3
    """
    match = re.fullmatch(
        r"(?P<scheme>\w+)://(?P<host>[^/?#\s]+)(?P<path>(?:/[^/?#\s]+)*?)"
        r"(?:/v1/models/(?P<model>[^/?#\s]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/?#\s]+))?)?/?",
        text,
    )
    if match is None or match["scheme"] not in _SCHEMES or (match["path"] and match["scheme"].startswith("grpc")):
        raise ValueError(
            f"model {text!r}: an address must look like grpc://127.0.0.1:8500 or http://127.0.0.1:8501, grpcs:// and "
            "https:// with encryption, with /v1/models/NAME behind it where one model of several is meant."
        )
    protocol, tls = _SCHEMES[match["scheme"]]
    server = match["host"] if protocol == "grpc" else f"{match['scheme']}://{match['host']}{match['path']}"
    model, label = (unquote(match[name]) if match[name] else None for name in ("model", "label"))
    return Address(server, protocol, tls, model, int(match["version"]) if match["version"] else None, label)
