"""Thirty-two entities; Table 4.

python -m train.gan --config=train/configs/paper/attennorm_n32.py --workdir=runs/attennorm_n32

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 47.14, FID 17.75.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_n32")
