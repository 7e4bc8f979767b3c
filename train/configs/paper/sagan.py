"""Self-attention after the generator's third block and the discriminator's second (SA-GAN); Tables 1 and 2.

python -m train.gan --config=train/configs/paper/sagan.py --workdir=runs/sagan

ImageNet at 128x128, batch 256; it needs several GPUs. The paper: FID 18.65, intra FID 83.7, IS 52.52.
Result: not run
"""

from attennorm_tf.config import GanConfig
from train.configs import imagenet128_attennorm


def get_config() -> GanConfig:
    """The paper's setting with this preset."""
    return imagenet128_attennorm.get_config("sagan")
