"""Which model of which server is spoken to, and the limits that hold there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from attennorm_tf.export.serving_errors import ServingError

DEFAULT_MAX_MESSAGE_MB = 64.0
_MEBIBYTE = 2**20


class VersionStatus(NamedTuple):
    """A version of a model on a server: its state ("AVAILABLE", "LOADING", ...) and what went wrong, if anything."""

    version: int
    state: str
    message: str


class ServingTarget(NamedTuple):
    """A model on a server.

    server: host:port; for REST also a URL with http:// or https:// and a path in front of /v1.
    version, label: at most one; without, the server's newest version.
    max_message_mb: MiB that a request or an answer may have.
    tls: encrypted; certificate: PEM file of the authorities to trust, or None for the system's.
    """

    server: str
    model: str
    version: int | None = None
    label: str | None = None
    max_message_mb: float = DEFAULT_MAX_MESSAGE_MB
    tls: bool = False
    certificate: str | None = None

    def __str__(self) -> str:
        which = f" version {self.version}" if self.version is not None else ""
        which = f" label {self.label!r}" if self.label else which
        return f"server {self.server}, model {self.model!r}{which}"

    def check(self) -> None:
        """Raises ValueError for what no server takes."""
        if not self.model or "/" in self.model:
            raise ValueError(f"model must be the name that the server gives it, without /; got {self.model!r}.")
        if self.version is not None and self.label:
            raise ValueError(f"give a version or a label, not both; got {self.version} and {self.label!r}.")
        if self.version is not None and self.version < 0:
            raise ValueError(f"version must be 0 or more, got {self.version}.")
        # 2 GiB is protobuf's own end.
        if not 0 < self.max_message_mb < 2048:
            raise ValueError(f"max_message_mb must be more than 0 and less than 2048, got {self.max_message_mb:g}.")
        if self.certificate and not self.tls and not self.server.startswith("https://"):
            raise ValueError("a certificate is of use only with tls or an https:// address.")

    def read_certificate(self) -> bytes | None:
        """The PEM file's content, or None."""
        return Path(self.certificate).read_bytes() if self.certificate else None

    def check_request_size(self, size: int) -> None:
        """Raises ServingError if a request of so many bytes is more than may be sent."""
        if size > self.max_message_mb * _MEBIBYTE:
            raise self.too_large("the request", size)

    def too_large(self, what: str, size: int | None) -> ServingError:
        """The error for a message over the limit; `size` in bytes where known."""
        has = f"has {size / _MEBIBYTE:.2f} MiB, more" if size is not None else "is larger"
        reason = f"{what} {has} than max_message_mb={self.max_message_mb:g}"
        return ServingError(
            str(self), "TOO_LARGE", reason, transient=False,
            hint="send smaller images or fewer at a time, or raise max_message_mb here and the limit of the server.",
        )  # fmt: skip


def check_host_and_port(server: str) -> None:
    """Raises ValueError unless it is host:port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", server)
    if not match or not 1 <= int(match.group(2)) <= 65535:
        raise ValueError(f"server must be host:port, such as 127.0.0.1:8500 or [::1]:8500; got {server!r}.")
