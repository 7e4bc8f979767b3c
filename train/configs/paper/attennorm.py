"""Attentive normalization, the paper's own model; Tables 1, 2 and, as n = 16, 4.

python -m train.gan --config=train/configs/paper/attennorm.py --workdir=runs/attennorm

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: FID 17.84, intra FID 83.40, IS 46.57.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm")
