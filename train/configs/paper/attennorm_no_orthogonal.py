"""Without the orthogonal regularization of the entities; Table 4, "w/o orthogonal reg".

python -m train.gan --config=train/configs/paper/attennorm_no_orthogonal.py --workdir=runs/attennorm_no_orthogonal

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: IS 45.99, FID 18.07.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("attennorm_no_orthogonal")
