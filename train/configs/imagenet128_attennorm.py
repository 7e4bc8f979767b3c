"""The paper's experiment (Table 1): ImageNet at 128x128, batch 256, 880k steps; it needs several GPUs.

python -m train.gan --config=train/configs/imagenet128_attennorm.py --workdir=runs/imagenet128

Result: not run.
"""

from attennorm_tf.config import GanConfig, gan_preset_config


def get_config(preset: str = "attennorm") -> GanConfig:
    """All of the paper's numbers; `:sngan`, `:sngan_star` and `:sagan` are its baselines."""
    config = gan_preset_config(preset, resolution=128)
    config.name = f"imagenet128_{preset}"
    config.data.name = "tfds:imagenet2012"
    config.data.horizontal_flip = True
    config.logging.checkpoint_every_steps = 5000
    return config
