"""What the settings of all experiments have in common: sections, checks, the way to a file and back."""

# No `from __future__ import annotations`: config_flags reads the types of the fields to parse the command line.
import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_SERVICE = re.compile(r"grpc://(\[[0-9a-fA-F:]+\]|[^\s:/,\[\]]+):([0-9]{1,5})")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

_Config = TypeVar("_Config", bound="ExperimentConfig")


class ExperimentConfig:
    """Base of the dataclasses that hold an experiment: `name`, and sections that are dataclasses with `validate()`."""

    def validate(self) -> None:
        """Checks every field.

        Raises:
            ValueError: the first field out of range, with its name, what is allowed and what came.
        """
        for name in _sections(type(self)):
            section = getattr(self, name)
            _check_types(name, section)
            section.validate()

    def to_json(self) -> str:
        """All fields, as kept in the work directory."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[_Config], text: str) -> _Config:
        """The inverse of `to_json`; unknown fields are a ValueError."""
        values = json.loads(text)
        config = cls(name=values.pop("name"))  # type: ignore[call-arg]
        for section, fields in values.items():
            if not dataclasses.is_dataclass(getattr(config, section, None)):
                raise ValueError(f"config: unknown section {section!r}.")
            filled(getattr(config, section), section, fields)
        return config


@dataclass
class LoggingConfig:
    """What a run writes, and how often, in steps; 0 turns one off."""

    log_every_steps: int = 100
    image_every_steps: int = 1000
    checkpoint_every_steps: int = 1000
    keep_last: int = 3  # newest checkpoints kept
    keep_best: int = 0  # further checkpoints kept: the best by `best_metric`; 0: none
    best_metric: str = ""  # a name of metrics.jsonl, "validation_psnr"
    best_mode: str = "max"  # or "min": which of its values is the best
    tensorboard: bool = True

    def validate(self) -> None:
        for name in ("log_every_steps", "image_every_steps", "checkpoint_every_steps"):
            check(f"logging.{name}", getattr(self, name), "an int >= 0", getattr(self, name) >= 0)
        check_numbers("logging", self, ("keep_last",), "an int >= 1", 1)
        check_numbers("logging", self, ("keep_best",), "an int >= 0", 0)
        check_options("logging", self, {"best_mode": ("max", "min")})
        named = bool(self.best_metric) or self.keep_best == 0
        check("logging.best_metric", self.best_metric, "a name of metrics.jsonl, with keep_best", named)


@dataclass
class LoopConfig:
    """What the training of every task has: its length, its devices, its arithmetic, what happens when it fails."""

    steps: int = 1_000_000  # generator steps
    batch_size: int = 16  # over all replicas
    seed: int = 0
    deterministic: bool = False  # bit-identical runs on the same machine, slower on GPUs
    strategy: str = "auto"  # or "one_device", "mirrored", "multi_worker", "tpu"
    steps_per_call: int = 20  # steps inside one compiled call
    precision: str = "float32"  # or "mixed_bfloat16", "mixed_float16" (with a loss scale)
    jit_compile: bool = False  # XLA for losses and gradients, where the strategy allows it
    gradient_clip_norm: float = 0.0  # of each network's gradient over all replicas; 0: not clipped
    accumulation_steps: int = 1  # parts of a replica's batch whose gradients are added up: less memory, more time
    # A loss or gradient that is NaN or infinite: "stop"; or "skip" the update (metrics.jsonl counts those skipped since
    # its line before as `skipped_updates`); or "roll_back".
    non_finite: str = "stop"
    max_rollbacks: int = 3  # to the last good checkpoint, each with another seed, before the run stops

    def validate(self) -> None:
        names = ("steps", "batch_size", "steps_per_call", "accumulation_steps")
        check_numbers("training", self, names, "an int >= 1", 1)
        check_numbers("training", self, ("max_rollbacks",), "an int >= 0", 0)
        check_numbers("training", self, ("gradient_clip_norm",), "a number >= 0", 0)
        check("training.seed", self.seed, "an int in [0, 2^31)", 0 <= self.seed < 2**31)
        check_options("training", self, {
            "strategy": STRATEGIES, "precision": PRECISIONS, "non_finite": ("stop", "skip", "roll_back"),
        })  # fmt: skip
        whole = self.batch_size % self.accumulation_steps == 0
        expected = f"a divisor of training.batch_size={self.batch_size}"
        check("training.accumulation_steps", self.accumulation_steps, expected, whole)


def field_names(config: type[ExperimentConfig]) -> list[str]:
    """Every field as it is spelt on the command line: "training.steps", ..."""
    names = ["name"]
    for name, section in _sections(config).items():
        names += [f"{name}.{entry.name}" for entry in dataclasses.fields(section)]
    return names


def config_difference(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """One line per field that differs, "model.width: 0.25 -> 0.5"; both of one class."""
    before, after = (_flat(config) for config in (old, new))
    return [f"{name}: {before[name]!r} -> {after[name]!r}" for name in before if before[name] != after[name]]


def filled(section: Any, section_name: str, fields: dict[str, Any]) -> Any:
    """The section with `fields` set.

    Raises:
        ValueError: a field it does not have.
    """
    known = [f.name for f in dataclasses.fields(section)]
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{section_name}.{name} is not a field; {section_name} has {', '.join(known)}.")
        setattr(section, name, value)
    return section


def check(name: str, value: Any, expected: str, allowed: bool) -> None:
    """Raises ValueError unless `allowed`."""
    if not allowed:
        raise ValueError(f"{name} must be {expected}; got {value!r}.")


def check_numbers(section_name: str, section: Any, names: Sequence[str], expected: str, least: float) -> None:
    """Raises ValueError for the first of the fields below `least`; `expected` says so in words."""
    for name in names:
        check(f"{section_name}.{name}", getattr(section, name), expected, getattr(section, name) >= least)


def check_options(section_name: str, section: Any, options: dict[str, tuple[Any, ...]]) -> None:
    """Raises ValueError for the first field whose value is not one of its options."""
    for name, allowed in options.items():
        value = getattr(section, name)
        check(f"{section_name}.{name}", value, "one of " + ", ".join(map(repr, allowed)), value in allowed)


def service_addresses(text: str) -> tuple[str, ...]:
    """The addresses in a config's `data.service`.

    Raises:
        ValueError: not such a list.
    """
    addresses = tuple(part.strip() for part in text.split(",")) if text else ()
    found = [_SERVICE.fullmatch(address) for address in addresses]
    right = all(match is not None and 0 < int(match.group(2)) < 2**16 for match in found)
    expected = "'grpc://host:port', several separated by commas, each once, or '' to decode here"
    check("data.service", text, expected, right and len(set(addresses)) == len(addresses))
    return addresses


def _sections(config: type[ExperimentConfig]) -> dict[str, Any]:
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    return {entry.name: entry.type for entry in fields if dataclasses.is_dataclass(entry.type)}


def _flat(config: Any) -> dict[str, Any]:
    flat = {"name": config.name}
    for name in _sections(type(config)):
        flat.update({f"{name}.{key}": value for key, value in dataclasses.asdict(getattr(config, name)).items()})
    return flat


def _check_types(name: str, section: Any) -> None:
    """A string where a number belongs would fail far from its cause."""
    for entry in dataclasses.fields(section):
        value, expected = getattr(section, entry.name), type(entry.default)
        fits = isinstance(value, (int, float)) if expected is float else isinstance(value, expected)
        if not fits or (isinstance(value, bool) and expected is not bool):
            raise ValueError(f"{name}.{entry.name} must be of type {expected.__name__}; got {value!r}.")
