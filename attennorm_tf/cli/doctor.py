"""attennorm-doctor: what this installation is, and whether the layer computes here what the paper says.

    attennorm-doctor
    attennorm-doctor --verbose     with all that TensorFlow logs on the way, e.g. why it sees no GPU

Prints versions, devices, the optional packages with the extra that brings each (pip install 'attennorm_tf[data]'), and
the layer's self-check: its output on every device against the formula in float64, its gradient against finite
differences, both with XLA. The exit code is 1 if a part of the self-check fails.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import textwrap
from importlib import metadata

import tensorflow as tf
from absl import flags

from attennorm_tf.cli.command import console_command, is_verbose, version_text
from attennorm_tf.cli.start_up import errors_unheard
from attennorm_tf.inference.self_check import self_check

_FLAGS = flags.FlagValues()
_DEVELOPERS = ("test", "dev", "docs", "jax", "notebooks", "peers")  # extras that a user needs none of
_WIDTH = 80


def run() -> int:
    """Prints the sections; 1 if the self-check failed."""
    print(version_text())
    print(f"NumPy {metadata.version('numpy')}, {platform.platform()}")
    print("\ndevices")
    for line in device_lines():
        print(f"  {line}")
    print("\noptional packages")
    for line in package_lines():
        print(f"  {line}")
    print("\nself-check of attentive normalization", flush=True)
    with contextlib.nullcontext() if is_verbose() else errors_unheard():
        checks = self_check()
    for check in checks:
        for line in _folded("ok    " if check.passed else "FAILED", check.name, check.detail):
            print(f"  {line}")
    failed = sum(not check.passed for check in checks)
    print()
    if failed:
        print(f"{failed} of {len(checks)} checks failed: results cannot be trusted on this machine.")
        return 1
    print(f"all {len(checks)} checks passed")
    return 0


def device_lines() -> list[str]:
    """One for each device that TensorFlow sees."""
    lines = []
    for device in tf.config.list_physical_devices():
        name = device.name.rpartition("physical_device:")[2]
        if device.device_type == "CPU":
            lines.append(f"{name}: {platform.machine()}, {_usable_cores()} cores")
        else:
            details = tf.config.experimental.get_device_details(device)
            capability = ".".join(str(part) for part in details.get("compute_capability", ()))
            lines.append(
                f"{name}: {details.get('device_name', 'unknown')}"
                + (f", compute capability {capability}" if capability else "")
            )
    if not any(line.startswith(("GPU", "TPU")) for line in lines):
        lines.append("no GPU or TPU")
    return lines


def package_lines() -> list[str]:
    """One for each package of each extra: its version, or that it is missing."""
    try:
        requirements = metadata.requires("attennorm_tf") or []
    except metadata.PackageNotFoundError:
        return ["unknown: the package itself is not installed, it runs from a folder"]
    lines = []
    for requirement in requirements:
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if not extra or not name or extra.group(1) in (*_DEVELOPERS, "classic", "cuda"):
            continue
        try:
            state = metadata.version(name.group())
        except metadata.PackageNotFoundError:
            state = f"missing: pip install 'attennorm_tf[{extra.group(1)}]'"
        lines.append(f"{extra.group(1):<12}{name.group():<24}{state}")
    return lines or ["none are known"]


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folded(state: str, name: str, detail: str) -> list[str]:
    """In one line where it fits, otherwise the detail below."""
    one = f"{state}  {name}: {detail}"
    if len(one) + 2 <= _WIDTH:
        return [one]
    return [f"{state}  {name}:", *(" " * 8 + line for line in textwrap.wrap(detail, _WIDTH - 10))]


main = console_command(__doc__, _FLAGS, run)


if __name__ == "__main__":
    main()
