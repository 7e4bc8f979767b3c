"""Regional statistics over the batch in place of each image's own; Table 4, "w BN".

python -m train.gan --config=train/configs/paper/attennorm_bn.py --workdir=runs/attennorm_bn

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 43.92, FID 19.59.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_bn")
