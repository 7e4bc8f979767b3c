"""The schema: ranges, types, presets, and the way to a file and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attennorm_tf.config import GAN_PRESETS, GanConfig, config_difference, field_names, gan_preset_config

OUT_OF_RANGE = [
    ("data.name", "cats", "data.name must be 'digits', 'image_folder' or 'tfds:<name>'; got 'cats'"),
    ("data.name", "tfds:", "data.name must be"),
    ("data.name", "image_folder", "data.root must be a folder"),
    ("model.resolution", 20, "model.resolution must be 16, 32, 64 or 128; got 20"),
    ("model.width", 0.0, "model.width must be a number > 0; got 0.0"),
    ("model.num_entities", 0, "model.num_entities must be an int >= 1; got 0"),
    ("model.affine", "all", "model.affine must be one of 'shared', 'per_entity', ''; got 'all'"),
    ("model.attention_block", 3, "model.attention_block must be one of 1, 2; got 3"),
    ("model.orthogonal_weight", -1.0, "model.orthogonal_weight must be a number >= 0; got -1.0"),
    ("training.steps", 0, "training.steps must be an int >= 1; got 0"),
    ("training.steps", "many", "training.steps must be of type int; got 'many'"),
    ("training.steps", True, "training.steps must be of type int; got True"),
    ("training.generator_learning_rate", 0.0, "must be a number > 0; got 0.0"),
    ("training.auxiliary_weight", -1.0, "training.auxiliary_weight must be a number >= 0; got -1.0"),
    ("training.beta_2", 1.0, "training.beta_2 must be a number in [0, 1); got 1.0"),
    ("training.seed", -1, "training.seed must be an int in [0, 2^31); got -1"),
    (
        "training.strategy",
        "horovod",
        "training.strategy must be one of 'auto', 'one_device', 'mirrored', 'multi_worker', 'tpu'; got 'horovod'",
    ),
    ("logging.keep_last", 0, "logging.keep_last must be an int >= 1; got 0"),
    ("logging.log_every_steps", -1, "logging.log_every_steps must be an int >= 0; got -1"),
    ("evaluation.classifier", "inception", "evaluation.classifier must be 'digits' or ''; got 'inception'"),
    ("evaluation.num_samples", 1, "evaluation.num_samples must be an int >= 2; got 1"),
]


@pytest.mark.parametrize(("field", "value", "message"), OUT_OF_RANGE)
def test_out_of_range(field: str, value: Any, message: str) -> None:
    config = GanConfig()
    section, name = field.split(".")
    setattr(getattr(config, section), name, value)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is compared whole below)
        config.validate()
    assert message in str(caught.value)


@pytest.mark.parametrize("preset", sorted(GAN_PRESETS))
def test_presets_are_valid_and_survive_a_file(preset: str) -> None:
    config = gan_preset_config(preset, resolution=64)
    config.validate()
    again = GanConfig.from_json(config.to_json())
    assert again == config
    assert config_difference(config, again) == []


def test_the_papers_numbers() -> None:
    """Specification 2: learning rates, Adam's betas, discriminator steps, batch, iterations."""

    def numbers(preset: str) -> tuple[Any, ...]:
        t = gan_preset_config(preset).training
        return (t.generator_learning_rate, t.discriminator_learning_rate, t.beta_1, t.beta_2, t.discriminator_steps,
                t.batch_size, t.steps)  # fmt: skip

    assert numbers("sngan") == (2e-4, 2e-4, 0.0, 0.9, 5, 256, 1_000_000)
    assert numbers("sngan_star") == numbers("sagan") == numbers("acgan") == (1e-4, 4e-4, 0.0, 0.999, 1, 256, 1_000_000)
    assert numbers("attennorm") == numbers("attennorm_bn") == (1e-4, 4e-4, 0.0, 0.999, 1, 256, 880_000)


def test_an_unknown_field_in_a_file() -> None:
    text = GanConfig().to_json().replace('"width"', '"breadth"')
    with pytest.raises(ValueError, match=r"model.breadth is not a field; model has resolution, width"):
        GanConfig.from_json(text)


def test_difference_names_every_changed_field() -> None:
    old, new = GanConfig(), GanConfig(name="other")
    new.model.width = 0.5
    new.data.root = "images"
    assert config_difference(old, new) == [
        "name: 'attennorm' -> 'other'",
        "data.root: '' -> 'images'",
        "model.width: 1.0 -> 0.5",
    ]


def test_field_names_are_all_fields() -> None:
    names = field_names(GanConfig)
    assert "training.steps" in names
    assert "name" in names
    sections = [s for s in dataclasses.fields(GanConfig) if dataclasses.is_dataclass(s.type)]
    assert len(names) == 1 + sum(len(dataclasses.fields(section.type)) for section in sections)
