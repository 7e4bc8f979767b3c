"""Spectral normalization in both networks (SN-GAN*), without attention; Table 1.

python -m train.gan --config=train/configs/paper/sngan_star.py --workdir=runs/sngan_star

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: FID 22.96, IS 42.87.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("sngan_star")
