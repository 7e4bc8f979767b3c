"""Functions of TensorFlow as XLA programs, run and timed by jaxlib alone: on a GPU machine that has only JAX.

    python -m benchmarks.xla_program write --output=programs
    python -m benchmarks.xla_program run programs/* --jax_python=/path/to/env/bin/python --output=benchmarks/results

`write` makes a folder for each function, size and type: the program before XLA's own optimizations (`program.hlo`, an
HloModuleProto), its inputs and the outputs that TensorFlow computes from them on this machine (.npy files without
pickle), and `program.json`, which describes them. Variables that the function reads are inputs after its arguments;
those that it updates are outputs after its results.

`run` starts `xla_runner.py`, one file that needs NumPy and jax alone, in the environment of `--jax_python`, once for
all programs that are to be compared (of one size and type), and writes `xla_<device>.json` and a table. A machine
without this project runs the same file by itself.

For large programs: `--inputs=seeded` describes the large inputs by a seed instead of storing them; `--noexpected`
leaves the outputs out where this machine is too small to compute them. Of large outputs a sample is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks.xla_runner import as_stored, sampled, seeded

FLAGS = flags.FLAGS

LARGE = 1 << 16  # bytes from which on an input may be described by a seed
SAMPLED = 1 << 16  # numbers of a large output that are kept
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.03}  # of an output's largest value
_TYPES = {"pred": "bool", "f32": "float32", "bf16": "bfloat16", "s32": "int32", "s64": "int64", "f64": "float64"}


def define_flags() -> None:
    """Of this command; other benchmarks, which a process may import as well, have an `--output` of their own."""
    flags.DEFINE_list("functions", None, "write: of them; default: all.")
    flags.DEFINE_list("sizes", None, "write: heights of the square maps; default: each function's own.")
    flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "write: types of the inputs.")
    flags.DEFINE_integer("batch", None, "write: maps of a call, where that can be chosen; default: the function's own.")
    flags.DEFINE_enum("inputs", "stored", ["stored", "seeded"], "write: large inputs in files, or described by a seed.")
    flags.DEFINE_bool("expected", True, "write: compute the outputs here, for the runner to compare with.")
    flags.DEFINE_string("output", None, "write: folder of the programs; run: folder of the results.", required=True)
    flags.DEFINE_string("jax_python", sys.executable, "run: Python of an environment with jax.")
    flags.DEFINE_integer("rounds", 20, "run: rounds of timed calls.", lower_bound=1)
    flags.DEFINE_float("round_seconds", 0.05, "run: work of a round.")
    flags.DEFINE_float("tolerance", 0.0, "run: instead of the programs' own.")
    flags.DEFINE_string("platform", "", "run: of jax, as cpu or gpu; default: its first.")


def write_program(
    folder: Path, function: str, size: int, batch: int, dtype: str, store: bool = True, expected: bool = True
) -> dict[str, Any]:
    """Writes one program; returns its description. `store`: large inputs too, rather than their seed."""
    import tensorflow as tf

    from benchmarks.xla_functions import FUNCTIONS, tensors

    kind = FUNCTIONS[function]
    written = kind.make(size, batch, dtype)
    arguments = tensors(written)
    compiled = tf.function(written.function, jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(**arguments)
    program = compiled.experimental_get_compiler_ir(**arguments)(stage="hlo_serialized")
    module = _module(program)
    inputs = [
        _Input(name, arguments[name].numpy(), None if store or "integers" in recipe else recipe)
        for name, (_, recipe) in written.inputs.items()
    ]
    state = _State(concrete, _shapes(module)["inputs"][len(inputs) :])
    inputs += state.described(store)
    aliases = {(*entry.output_shape_index, 0)[0]: entry.parameter_number for entry in module.input_output_alias.entries}
    updates = [aliases[index] for index in sorted(aliases)]
    names = sorted(concrete.structured_outputs)

    def computed(callable_: Any) -> list[np.ndarray]:
        state.restore()
        outputs = callable_(**arguments)
        found = state.values()
        return [outputs[name].numpy() for name in names] + [found[index - len(arguments)] for index in updates]

    outputs: list[Any] = [None] * (len(names) + len(updates))
    if expected:
        plain = computed(tf.function(written.function, autograph=False))
        outputs = list(zip(computed(compiled), plain))
    about = {
        "name": folder.name, "function": function, "size": size, "batch": written.images, "dtype": dtype,
        "group": f"{kind.group} {size} {dtype}", "baseline": kind.baseline == function,
        "tolerance": TOLERANCES[dtype], "traffic_bytes": written.traffic_bytes, "tensorflow": tf.__version__,
    }  # fmt: skip
    names += [inputs[index].name for index in updates]
    updated = [None] * (len(names) - len(updates)) + updates
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        (aside / "program.hlo").write_bytes(program)
        about["inputs"] = [_stored_input(aside, one) for one in inputs]
        about["outputs"] = [
            {**shape, **_stored_output(aside, name, output, TOLERANCES[dtype]), "updates": update}
            for shape, name, output, update in zip(_shapes(module)["outputs"], names, outputs, updated)
        ]
        check_description(program, about)
        (aside / "program.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return about


class _Input(NamedTuple):
    """An input: its values, and the recipe that they were made by, if they are not to be stored."""

    name: str
    values: np.ndarray
    recipe: dict[str, Any] | None = None


class _State:
    """What a function captures: variables by their handles (not all are known to its graph), and constants."""

    def __init__(self, concrete: Any, shapes: list[dict[str, Any]]):
        known = {id(variable.handle): variable.name.split(":")[0] for variable in concrete.graph.variables}
        self._tensors = list(concrete.captured_inputs)
        self._shapes = shapes
        if len(shapes) != len(self._tensors):
            raise ValueError(f"the program takes {len(shapes)} captured tensors, the function has {len(self._tensors)}")
        self._names = [f"captured_{i:03d}_{known.get(id(t), '')}".rstrip("_") for i, t in enumerate(self._tensors)]
        self._before = self.values()

    def values(self) -> list[np.ndarray]:
        """As they are now."""
        import tensorflow as tf

        return [
            (tf.raw_ops.ReadVariableOp(resource=one, dtype=shape["dtype"]) if one.dtype == tf.resource else one).numpy()
            for one, shape in zip(self._tensors, self._shapes)
        ]

    def restore(self) -> None:
        """Sets the variables to what they were at first, or by `described`."""
        import tensorflow as tf

        for tensor, value in zip(self._tensors, self._before):
            if tensor.dtype == tf.resource:
                tf.raw_ops.AssignVariableOp(resource=tensor, value=tf.constant(value))

    def described(self, store: bool) -> list[_Input]:
        """As inputs; unless `store`, large variables get values of a seed, of the mean and deviation that they had."""
        found = []
        for index, (name, values) in enumerate(zip(self._names, self._before)):
            recipe = None
            if not store and values.nbytes >= LARGE and values.dtype.name == "float32":
                mean, std = round(float(values.mean()), 6), round(float(values.std()), 6)
                recipe = {"seed": index, "mean": mean, "std": std, "softmax": False}
                self._before[index] = seeded(recipe, list(values.shape))
            found.append(_Input(name, self._before[index], recipe))
        return found


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)


def _stored_input(folder: Path, one: _Input) -> dict[str, Any]:
    entry = {"name": one.name, "dtype": one.values.dtype.name, "shape": list(one.values.shape)}
    if one.recipe is not None:
        return {**entry, "seeded": one.recipe}
    file = f"in_{_file_name(one.name)}.npy"
    np.save(folder / file, as_stored(one.values), allow_pickle=False)
    return {**entry, "file": file}


def _stored_output(folder: Path, name: str, computed: Any, tolerance: float) -> dict[str, Any]:
    """`scale`: what a difference is divided by: the largest value. More where TensorFlow's own results with and
    without XLA differ, as in a gradient that is 0 but for rounding.
    """
    if computed is None:
        return {"name": name, "expected": None, "sample": None, "scale": None}
    value, plain = computed
    wide = value.astype(np.float64)
    noise = float(np.abs(wide - plain.astype(np.float64)).max(initial=0.0))
    scale = float(np.abs(wide).max(initial=0.0)) + 10 * noise / tolerance
    if not np.isfinite(scale):
        raise ValueError(f"{name} is not finite; such a program measures nothing.")
    sample = {"count": SAMPLED, "seed": 0} if value.size > SAMPLED else None
    file = f"out_{_file_name(name)}.npy"
    np.save(folder / file, as_stored(sampled(value, sample)), allow_pickle=False)
    return {"name": name, "expected": file, "sample": sample, "scale": scale, "noise": noise}


def _module(program: bytes) -> Any:
    from tensorflow.compiler.xla.service import hlo_pb2

    return hlo_pb2.HloModuleProto.FromString(program)


def _shapes(module: Any) -> dict[str, list[dict[str, Any]]]:
    """Types and shapes of a program's inputs and outputs."""
    from tensorflow.compiler.xla import xla_data_pb2

    shape = module.host_program_shape
    results = shape.result.tuple_shapes if shape.result.tuple_shapes else [shape.result]

    def described(one: Any) -> dict[str, Any]:
        dtype = _TYPES[xla_data_pb2.PrimitiveType.Name(one.element_type).lower()]
        return {"dtype": dtype, "shape": list(one.dimensions)}

    return {"inputs": [described(one) for one in shape.parameters], "outputs": [described(one) for one in results]}


def check_description(program: bytes, about: dict[str, Any]) -> None:
    """Raises ValueError unless the program takes and returns what its description says."""
    for what, found in _shapes(_module(program)).items():
        described = [{name: entry[name] for name in ("dtype", "shape")} for entry in about[what]]
        if found != described:
            raise ValueError(f"{about['name']}: the program's {what} are {found}, not {described}.")


def run_programs(folders: list[Path]) -> dict[str, Any]:
    """Runs programs in the environment of `--jax_python`, each group in a process of its own."""
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in folders:
        if not (folder / "program.json").is_file():
            raise ValueError(f"{folder} is no program: it holds no program.json; write one with `write`.")
        about = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        groups.setdefault(about["group"], []).append((folder, about))
    rows = []
    for group, members in groups.items():
        command = [FLAGS.jax_python, str(Path(__file__).with_name("xla_runner.py")), *(str(f) for f, _ in members)]
        command += [f"--{name}={getattr(FLAGS, name)}" for name in ("rounds", "round_seconds", "tolerance", "platform")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not done.stdout.strip():
            raise RuntimeError(f"{group}: the runner ended with exit code {done.returncode}; its message is above.")
        found = {row["name"]: row for row in json.loads(done.stdout.strip().splitlines()[-1])}
        kept = ("function", "size", "batch", "dtype", "group", "baseline", "traffic_bytes", "tensorflow")
        rows += [{**{name: about[name] for name in kept}, **found[about["name"]]} for _, about in members]
    return {"rows": rows, "cores": os.cpu_count()}


def with_ratios(rows: list[dict[str, Any]]) -> None:
    """Adds each row's ratio to its group's baseline, round by round, and its share of the copy's bandwidth."""
    for row in rows:
        (base,) = [other for other in rows if other["group"] == row["group"] and other["baseline"]] or [None]
        if base is None or base is row or "ms" not in row or "ms" not in base:
            continue
        ratios = np.array(base["rounds_ms"]) / np.array(row["rounds_ms"])
        row["times_faster"] = statistics.median(ratios.tolist())
        row["times_faster_quartiles"] = [float(q) for q in np.percentile(ratios, (25, 75))]
        if base["function"] == "copy":
            row["share_of_copy"] = row["times_faster"] * row["traffic_bytes"] / base["traffic_bytes"]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = results["rows"]
    first = rows[0]
    lines = [
        f"Programs written by TensorFlow {first['tensorflow']}, run by jax {first['jax']} on {first['device']} "
        f"({first['platform']}). Commands: `python -m benchmarks.xla_program write`, `... run`.",
        "",
        "| function | size | batch | type | ms, median (quartiles) | images/s | against its baseline | GB/s | "
        "share of copy | memory | compiling | differs from TensorFlow |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        what = f"| {row['function']} | {row['size']} | {row['batch']} | {row['dtype']} |"
        if "failed" in row:
            lines.append(f"{what} {row['failed'].replace('|', '/')} |" + " |" * 7)
            continue
        low, high = np.percentile(row["rounds_ms"], (25, 75))
        faster = "baseline" if row["baseline"] else ""
        if "times_faster" in row:
            faster = "{:.3g}x as fast ({:.3g}, {:.3g})".format(row["times_faster"], *row["times_faster_quartiles"])
        rate = f"{row['traffic_bytes'] / row['ms'] / 1e6:.0f}" if row["traffic_bytes"] else ""
        share = f"{100 * row['share_of_copy']:.0f} %" if "share_of_copy" in row else ""
        memory = f"{row['memory_mib']:.0f} MiB" if row["memory_mib"] is not None else ""
        error = "not compared" if row["error"] is None else f"{row['error']:.1e}"
        lines.append(
            f"{what} {row['ms']:.3f} ({low:.3f}, {high:.3f}) | {1e3 * row['batch'] / row['ms']:.1f} | {faster} | "
            f"{rate} | {share} | {memory} | {row['compile_seconds']:.1f} s | {error} |"
        )
    return "\n".join(lines) + "\n"


def write_results(results: dict[str, Any], output: Path) -> Path:
    """Writes `xla_<device>.json` and `.md`; rows of programs run before on that device stay unless run again."""
    device = re.sub(r"[^a-z0-9]+", "_", results["rows"][0]["device"].lower()).strip("_")
    path = output / f"xla_{device}.json"
    if path.is_file():
        new = {row["name"] for row in results["rows"]}
        kept = json.loads(path.read_text(encoding="utf-8"))["rows"]
        results["rows"] = [row for row in kept if row["name"] not in new] + results["rows"]
    output.mkdir(parents=True, exist_ok=True)
    for target, text in ((path, json.dumps(results, indent=1) + "\n"), (path.with_suffix(".md"), table(results))):
        temporary = target.with_name(target.name + ".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    return path


def main(argv: list[str]) -> None:
    """Writes or runs."""
    if len(argv) < 2 or argv[1] not in ("write", "run"):
        raise app.UsageError("expected `write` or `run`")
    if argv[1] == "run":
        results = run_programs([Path(folder) for folder in argv[2:]])
        with_ratios(results["rows"])
        path = write_results(results, Path(FLAGS.output))
        print(path.with_suffix(".md").read_text(encoding="utf-8"))
        return
    from benchmarks.xla_functions import FUNCTIONS

    for function in FLAGS.functions or FUNCTIONS:
        if function not in FUNCTIONS:
            raise app.UsageError(f"--functions: {function!r} is none of {', '.join(FUNCTIONS)}")
        kind = FUNCTIONS[function]
        for size in map(int, FLAGS.sizes or kind.sizes):
            for dtype in FLAGS.dtypes:
                folder = Path(FLAGS.output) / f"{function}-{size}-{dtype}"
                batch = FLAGS.batch or kind.batch
                about = write_program(folder, function, size, batch, dtype, FLAGS.inputs == "stored", FLAGS.expected)
                size_mib = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
                counts = f"{len(about['inputs'])} inputs, {len(about['outputs'])} outputs"
                print(f"{folder}: {counts}, {size_mib:.1f} MiB", flush=True)


if __name__ == "__main__":
    define_flags()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
