"""Two processes train to the same weights as one with the same global batch: both tasks, by the commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.training import find_checkpoint
from tests.cluster_jobs import finish, start_job
from tests.processes import start_module

ROOT = Path(__file__).parents[2]
STEPS = 5
COMMON = (
    f"--config.training.steps={STEPS}",
    "--config.training.batch_size=4",
    "--config.training.steps_per_call=5",
    "--config.training.gradient_clip_norm=0.5",
    "--config.logging.log_every_steps=5",
    "--config.logging.checkpoint_every_steps=0",
    "--config.logging.image_every_steps=5",
    "--config.logging.tensorboard=false",
)
# A bias before a batch normalization has no gradient but rounding, of which Adam makes steps of full length. That of
# block2's first convolution comes before the attentive normalization, whose layout depends on it.
BEFORE_BATCH_NORMALIZATION = r"block1\.Sconv1\.Sbias|block[12]\.S(conv2|shortcut)\.Sbias"
LEARNING_RATE = 5e-4  # the generator's
GAN = (
    *COMMON,
    "--config.model.width=0.03125",
    "--config.model.latent_dim=4",
    "--config.model.num_entities=2",
    "--config.model.normalization=batch",
    "--config.evaluation.classifier=",
)
INPAINTING = (
    *COMMON,
    "--config.data.name=image_folder",
    "--config.model.resolution=16",
    "--config.model.width=0.0625",
    "--config.model.discriminator_width=0.0625",
    "--config.model.num_entities=2",
    "--config.masks.height=8",
    "--config.masks.width=8",
    "--config.masks.shrink=2",
    "--config.training.phase_two_step=0",
    "--config.training.discriminator_steps=1",
    "--config.training.validate_every_steps=5",
)


def saved(workdir: Path) -> dict[str, np.ndarray]:
    """Every floating point variable of the newest checkpoint."""
    reader = tf.train.load_checkpoint(str(find_checkpoint(workdir) / "state"))
    names = [name for name, kind in reader.get_variable_to_dtype_map().items() if kind.is_floating]
    return {name: reader.get_tensor(name) for name in names}


def check_equal(one: Path, two: Path, without_gradient: str = "(?!)") -> None:
    """Compares all but the weights that match `without_gradient`, whose gradients must have been rounding alone."""
    expected, found = saved(one), saved(two)
    assert len(expected) > 20
    assert set(expected) == set(found)
    for name, values in expected.items():
        weight = re.fullmatch(rf"(generator|average)/({without_gradient})/\.ATTRIBUTES/VARIABLE_VALUE", name)
        if weight is None:
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            [momentum] = [n for n in expected if n.startswith(f"generator_optimizer/m/generator.S{weight.group(2)}/")]
            np.testing.assert_allclose(expected[momentum], 0, atol=1e-6, err_msg=momentum)
            np.testing.assert_allclose(values, 0, atol=2 * STEPS * LEARNING_RATE, err_msg=name)  # both runs' steps
            np.testing.assert_allclose(found[name], 0, atol=2 * STEPS * LEARNING_RATE, err_msg=name)


@pytest.mark.slow
def test_the_example_of_the_documentation_trains_as_one_process(tmp_path: Path) -> None:
    """With batch normalization over both processes; the script as it stands in docs."""
    alone = start_module(
        "train.gan", "--config=train/configs/digits_attennorm.py", f"--workdir={tmp_path / 'one'}",
        "--config.training.strategy=one_device", *GAN,
    )  # fmt: skip
    together = subprocess.run(
        ["bash", "docs/two_processes.sh", f"--workdir={tmp_path / 'two'}", *GAN],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert together.returncode == 0, together.stderr[-3000:]
    assert finish([alone], 240) == [0], alone.stderr[-3000:]
    check_equal(tmp_path / "one", tmp_path / "two", BEFORE_BATCH_NORMALIZATION)
    # The chief alone speaks and writes, once.
    assert together.stdout.count("1438 images, 10 classes") == 1
    assert together.stdout.count("digits_attennorm wrote") == 1
    assert together.stderr.count("step 5/5 100%") == 1
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "two" / "report.json").exists()


@pytest.mark.slow
def test_two_processes_inpaint_as_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for index in range(12):
        pixels = random.integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{index}.png")
    config = ("--config=train/configs/inpainting_photographs.py", f"--config.data.root={tmp_path / 'photographs'}")
    alone = start_module("train.inpainting", *config, f"--workdir={tmp_path / 'one'}", *INPAINTING)
    together = start_job(2, "train.inpainting", *config, f"--workdir={tmp_path / 'two'}", *INPAINTING)
    assert finish([alone, *together], 300) == [0, 0, 0], together[0].stderr[-3000:]
    check_equal(tmp_path / "one", tmp_path / "two")
    assert together[1].stdout == ""
    assert "photographs wrote" in together[0].stdout
