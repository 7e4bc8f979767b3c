"""Without self-sampling regularization; Table 4, "w/o SSR".

python -m train.gan --config=train/configs/paper/attennorm_no_ssr.py --workdir=runs/attennorm_no_ssr

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 37.86, FID 23.58.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_no_ssr")
