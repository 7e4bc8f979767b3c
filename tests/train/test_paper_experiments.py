"""The experiments of the paper's tables: what differs between them, and that their data sections open real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attennorm_tf.config import config_difference, gan_preset_config
from attennorm_tf.data import load_dataset
from train.paper_tables import PAPER_TABLES, TABLE_1, TABLE_2, TABLE_2_CLASSES, TABLE_4
from train.reproduction.experiments import Options, gan_config, inpainting_config, paper_config

ROOT = Path(__file__).parents[2]
GAN_ROWS = sorted({row.experiment for table in (TABLE_1, TABLE_4) for row in table.rows})


def test_every_row_has_an_experiment_and_every_experiment_a_row() -> None:
    files = {path.stem for path in (ROOT / "train/configs/paper").glob("*.py")} - {"__init__"}
    rows = {row.experiment for table in PAPER_TABLES.values() for row in table.rows}
    assert files == rows | {"attennorm_n16"}  # which is attennorm
    for table in PAPER_TABLES.values():
        for row in table.rows:
            assert set(row.paper) == {score.key for score in table.scores}


def test_what_the_paper_says_of_its_own_numbers() -> None:
    """Sentences of the paper that can be computed from the tables as typed here."""
    one, four = ({row.experiment: row.paper for row in table.rows} for table in (TABLE_1, TABLE_4))
    assert min(row["fid"] or 999 for row in one.values()) == one["attennorm"]["fid"] == four["attennorm"]["fid"]
    assert one["attennorm"]["inception_score"] == four["attennorm"]["inception_score"]
    assert [one[name]["fid"] for name in ("attennorm", "sagan", "sngan_star")] == [17.84, 18.65, 22.96]  # the abstract
    assert four["attennorm_no_ssr"]["fid"] == 23.58
    ours, theirs = (
        next(row.paper for row in TABLE_2.rows if row.experiment == name) for name in ("attennorm", "sagan")
    )
    better = [c.name for c in TABLE_2_CLASSES if ours[f"intra_fid/{c.class_id}"] < theirs[f"intra_fid/{c.class_id}"]]
    assert len(better) == 7
    assert "Saint bernard" not in better


@pytest.mark.parametrize("experiment", GAN_ROWS)
def test_paper_settings(experiment: str) -> None:
    """128x128, batch 256, ImageNet; every experiment differs from its preset in nothing but data and logging."""
    config = paper_config(experiment)
    preset = gan_preset_config(experiment)
    assert (config.model.resolution, config.model.width, config.training.batch_size) == (128, 1.0, 256)
    assert config.data.name == "tfds:imagenet2012"
    changed = {line.split(":")[0] for line in config_difference(preset, config)}
    assert changed == {"name", "data.name", "data.horizontal_flip", "logging.checkpoint_every_steps"}


def test_sixteen_entities_are_the_papers_own_model() -> None:
    assert config_difference(paper_config("attennorm"), paper_config("attennorm_n16")) == [
        "name: 'imagenet128_attennorm' -> 'imagenet128_attennorm_n16'"
    ]


@pytest.mark.parametrize("scale", ["small", "smoke"])
@pytest.mark.parametrize("experiment", GAN_ROWS)
def test_scales_keep_what_makes_the_experiment(experiment: str, scale: str) -> None:
    made = gan_config(experiment, Options(scale, Path("x")))
    paper, base = paper_config(experiment), gan_config("attennorm", Options(scale, Path("x")))
    for section, kept in (
        ("model", ("attention", "conditioning", "num_entities", "self_sampling", "normalization", "orthogonal_weight",
                   "temperature", "generator_spectral_normalization")),
        ("training", ("discriminator_steps", "generator_learning_rate", "discriminator_learning_rate", "beta_2")),
    ):  # fmt: skip
        for name in kept:
            assert getattr(getattr(made, section), name) == getattr(getattr(paper, section), name)
    for name in ("steps", "batch_size", "seed"):
        assert getattr(made.training, name) == getattr(base.training, name)


def test_options_reach_the_config() -> None:
    options = Options("full", Path("x"), "image_folder", "pictures", max_steps=2, batch_size=4, seed=7)
    config = gan_config("sagan", options)
    assert (config.training.steps, config.training.batch_size, config.training.seed) == (2, 4, 7)
    assert (config.data.name, config.data.root) == ("image_folder", "pictures")
    assert config.model.width == 1.0
    inpainting = inpainting_config("paris_attentive", options)
    assert (inpainting.data.root, inpainting.model.resolution, inpainting.training.steps) == ("pictures", 256, 2)
    with pytest.raises(ValueError, match=r"--data_root: table 3 at full scale needs the folder of Paris StreetView"):
        inpainting_config("paris_attentive", Options("full", Path("x")))


def build(folder: Path, name: str, version: str, labels: list[int]) -> None:
    """A data set of that name in TFDS' own format, with the features of the real one."""
    import tensorflow_datasets as tfds

    imagenet = name == "Imagenet2012"

    def features() -> dict[str, Any]:
        if imagenet:
            return {
                "file_name": tfds.features.Text(),
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=1000),
            }
        return {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }

    def info(builder: Any) -> Any:
        return tfds.core.DatasetInfo(
            builder=builder, features=tfds.features.FeaturesDict(features()), supervised_keys=("image", "label")
        )

    def examples(builder: Any) -> Any:
        for index, label in enumerate(labels):
            size = (150, 150 + index) if imagenet else (32, 32)
            pixels = np.random.default_rng(index).integers(0, 255, (*size, 3), np.uint8)
            yield index, {"image": pixels, "label": label, "file_name" if imagenet else "id": f"{index}.jpg"}

    # The real data set of this name stays registered; what is found in the folder is this one.
    with tfds.core.registered.skip_registration():
        made = type(
            name, (tfds.core.GeneratorBasedBuilder,),
            {"VERSION": tfds.core.Version(version), "_info": info, "_generate_examples": examples,
             "_split_generators": lambda builder, manager: {"train": builder._generate_examples()}},
        )  # fmt: skip
        made(data_dir=folder).download_and_prepare()


@pytest.mark.parametrize(
    ("scale", "builder", "version", "classes"),
    [("full", "Imagenet2012", "5.1.0", 1000), ("small", "Cifar10", "3.0.2", 10)],
)
def test_data_sections_open_tfds(scale: str, builder: str, version: str, classes: int, tmp_path: Path) -> None:
    labels = [0, 5, classes - 1, 3]
    build(tmp_path, builder, version, labels)
    config = gan_config("attennorm", Options(scale, Path("x"), data_root=str(tmp_path)))
    assert config.data.name == f"tfds:{builder.lower()}"
    data = load_dataset(config.data.name, root=config.data.root, split=config.data.split)
    assert (data.num_examples, data.num_classes, data.channels) == (4, classes, 3)
    side = config.model.resolution
    images, found = next(
        iter(data.batches(resolution=side, batch_size=4, seed=0, horizontal_flip=config.data.horizontal_flip))
    )
    assert images.shape == (4, side, side, 3)
    assert sorted(found.numpy().tolist()) == sorted(labels)


@pytest.mark.parametrize(
    ("scale", "name", "version", "classes"),
    [("full", "imagenet2012", "5.1.0", 1000), ("small", "cifar10", "3.0.2", 10)],
)
def test_data_sections_open_mocked_tfds(scale: str, name: str, version: str, classes: int, tmp_path: Path) -> None:
    """The real data set's own code and features, with invented pixels."""
    import tensorflow_datasets as tfds

    place = tmp_path / name / version
    place.mkdir(parents=True)
    split = {
        "name": "train", "shardLengths": ["5"], "numBytes": "9000",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }  # fmt: skip
    facts = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": [split]}
    (place / "dataset_info.json").write_text(json.dumps(facts))
    with tfds.testing.mock_data(num_examples=5, data_dir=str(tmp_path)):
        config = gan_config("attennorm", Options(scale, Path("x"), data_root=str(tmp_path)))
        data = load_dataset(config.data.name, root=config.data.root, split=config.data.split)
        assert (data.num_examples, data.num_classes) == (5, classes)
        images, labels = next(iter(data.batches(resolution=32, batch_size=5, seed=0)))
        assert images.shape == (5, 32, 32, 3)
        assert set(labels.numpy()) <= set(range(classes))
