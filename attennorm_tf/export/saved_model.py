"""SavedModels that load without this package: variables and graphs only, no Keras, no random operation."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from attennorm_tf.export.folded_networks import folded_network
from attennorm_tf.export.request_checks import CONTEXTUAL_LIMITS, Limits, check_limits
from attennorm_tf.export.signature_defs import shapes_of
from attennorm_tf.export.signatures import generation_signatures, inpainting_signatures
from attennorm_tf.models import ClassConditionalGenerator, ContextualAttentionInpainter


class ExportError(RuntimeError):
    """A file could not be exported, or does not compute what the model computes."""


def default_limits(model: Any) -> Limits:
    """What a request may hold where nothing else is said."""
    return CONTEXTUAL_LIMITS if isinstance(model, ContextualAttentionInpainter) else Limits()


def write_saved_model(model: Any, folder: str | os.PathLike[str], limits: Limits | None = None) -> None:
    """Writes a generator or inpainting network as a SavedModel with the signatures of `signatures`.

    Args:
        model: built, not made under a multi-replica strategy.
        folder: where `saved_model.pb` and `variables` go.
        limits: of a request; default `default_limits`.

    Raises:
        ValueError: a limit out of range, or another model.
        ExportError: its graph holds an operation that would make it random, or need Python or other libraries.
    """
    limits = default_limits(model) if limits is None else limits
    check_limits(limits)
    network = folded_network(model)
    if isinstance(model, ClassConditionalGenerator):
        signatures = generation_signatures(network, model.latent_dim, model.num_classes, limits)
    else:
        signatures = inpainting_signatures(network, limits)
    module = tf.Module()
    module.variables_of_the_model = list(network.variables)
    concrete = {name: function.get_concrete_function() for name, function in signatures.items()}
    for name, function in concrete.items():
        check_operations(name, function.graph.as_graph_def())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=concrete, options=options)


def signature_shapes(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Signatures of a SavedModel: {name: {"inputs" and "outputs": {name: {"shape", "dtype"}}}}, None where free."""
    graph = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes()).meta_graphs[0]
    return shapes_of(graph.signature_def)


def check_operations(name: str, graph: Any) -> None:
    """Raises ExportError for an operation that is random or runs Python, in a graph or its functions."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    found = {node.op for node in nodes}
    wrong = sorted(op for op in found if "Random" in op or "PyFunc" in op or "Multinomial" in op)
    if wrong:
        raise ExportError(f"signature {name!r}: its graph holds {', '.join(wrong)}.")


def export_generator(generator: Any, path: str | os.PathLike[str], tolerance: float = 1e-4) -> Path:
    """Writes a generator's SavedModel, at the end of a run; see `signatures` for what it offers.

    The file is written aside, loaded again and compared with the generator before it takes its place.

    Args:
        generator: a built `ClassConditionalGenerator`, not made under a multi-replica strategy.
        path: the SavedModel's folder; replaced if it is there.
        tolerance: largest difference allowed between file and generator.

    Returns:
        The folder.

    Raises:
        ExportError: it could not be written, or its outputs differ.
    """
    from attennorm_tf.export.parity import check_saved_model

    path = Path(path)
    with written_aside(path) as aside:
        write_saved_model(generator, aside)
        check_saved_model(generator, aside, tolerance)
        if path.exists():
            shutil.rmtree(path)
    return path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its name at the end, or is gone where something fails.

    Raises:
        ExportError: in place of what the file system or TensorFlow raises.
    """
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        yield aside
        aside.chmod(0o755)  # mkdtemp makes a private folder
        os.replace(aside, path)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{path} could not be written: {str(error).splitlines()[0]}") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
