"""Sixteen entities, which is `attennorm` under the name of Table 4.

python -m train.gan --config=train/configs/paper/attennorm_n16.py --workdir=runs/attennorm_n16

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 46.57, FID 17.84.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_n16")
