"""An auxiliary classifier on SN-GAN*'s networks and setting (AC-GAN); Table 1.

python -m train.gan --config=train/configs/paper/acgan.py --workdir=runs/acgan

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: intra FID 260.0, IS 28.5.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("acgan")
