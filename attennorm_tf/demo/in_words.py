"""Errors as a person reads them on the page."""

from __future__ import annotations

import html
import logging

import tensorflow as tf

from attennorm_tf.export.serving_errors import ServingError

_LOGGER = logging.getLogger(__name__)


def in_words(error: Exception) -> str:
    """What to tell; what is a defect of the program is logged with its traceback, too."""
    if isinstance(error, MemoryError):
        return "There is not enough memory for this. Take a smaller photo, or a smaller hole."
    if isinstance(error, tf.errors.OpError):
        return (error.message or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError):
        return f"A file cannot be read or written: {error.strerror or error}."
    if isinstance(error, (ValueError, ServingError)):
        return str(error)
    _LOGGER.error("unexpected error", exc_info=error)
    return f"The program has failed: {type(error).__name__}. The terminal shows where."


def model_line(title: str) -> str:
    """HTML that names a tab's model."""
    return f'<p class="model">Model: {html.escape(title)}</p>'


def notice(text: str, kind: str = "note") -> str:
    """A line of HTML; kind: "note", "error" or "done"."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="notice {kind}" role="{role}">{html.escape(text)}</div>' if text else ""
