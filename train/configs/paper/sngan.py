"""Spectral normalization in the discriminator only (SN-GAN), five discriminator steps; Table 1.

python -m train.gan --config=train/configs/paper/sngan.py --workdir=runs/sngan

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: FID 27.62, intra FID 92.4, IS 36.80.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("sngan")
