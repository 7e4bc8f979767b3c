"""A SavedModel under another default signature, for runtimes that read only that one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2


def with_default_signature(
    version_folder: str | os.PathLike[str], signature: str, destination: str | os.PathLike[str]
) -> Path:
    """Copies a SavedModel; in the copy `serving_default` is another one of its signatures, and the only one.

    Graph and weights stay as they are. (`tf.saved_model.load` does not go by these names: it sees the original ones.)

    Args:
        version_folder: the SavedModel.
        signature: which one becomes the default.
        destination: folder of the copy; must not be there yet.

    Returns:
        The copy.

    Raises:
        ValueError: no SavedModel, no such signature, or the destination is there.
    """
    source, target = Path(version_folder), Path(destination)
    if not (source / "saved_model.pb").is_file():
        raise ValueError(f"'{source}' is no SavedModel: there is no saved_model.pb; name one version's folder.")
    if target.exists():
        raise ValueError(f"destination '{target}' exists; remove it or choose another.")
    model = saved_model_pb2.SavedModel.FromString((source / "saved_model.pb").read_bytes())
    for graph in model.meta_graphs:
        names = sorted(name for name in graph.signature_def if not name.startswith("__"))
        if signature not in names:
            raise ValueError(f"'{source}' has no signature {signature!r}, only {', '.join(names)}.")
        chosen = type(graph.signature_def[signature])()
        chosen.CopyFrom(graph.signature_def[signature])
        for name in names:
            del graph.signature_def[name]
        graph.signature_def["serving_default"].CopyFrom(chosen)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        shutil.copytree(source, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns("assets.extra"))
        (aside / "saved_model.pb").write_bytes(model.SerializeToString())
        aside.chmod(0o755)
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target
