"""Eight entities; Table 4.

python -m train.gan --config=train/configs/paper/attennorm_n8.py --workdir=runs/attennorm_n8

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 45.51, FID 19.01.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_n8")
