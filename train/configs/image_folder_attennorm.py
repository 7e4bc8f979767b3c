"""Attentive normalization on one's own images, 32x32, from a folder with one folder per class.

python -m train.gan --config=train/configs/image_folder_attennorm.py --workdir=runs/mine --config.data.root=IMAGES

Result: not run.
"""

from attennorm_tf.config import GanConfig, gan_preset_config


def get_config(preset: str = "attennorm") -> GanConfig:
    """The preset's own optimisation, at CIFAR's size and half the paper's width."""
    config = gan_preset_config(preset, resolution=32, width=0.5)
    config.name = f"image_folder_{preset}"
    config.data.name = "image_folder"
    config.data.root = "images"
    config.data.horizontal_flip = True
    config.training.steps = 100_000
    config.training.batch_size = 64
    return config
