"""Contextual attention ("CA") on Paris StreetView at 256x256; Table 3.

python -m train.inpainting --config=train/configs/paper/paris_contextual.py --config.data.root=path/to/paris \
    --workdir=runs/paris_contextual

The data set is given by its authors (Pathak et al., 2016) on request; any folder of photographs will do for trying. It
needs a GPU. The paper: PSNR 23.78 dB, SSIM 0.8406, MAE 0.0338.
Result: not run
"""

from attennorm_tf.config import InpaintingConfig
from train.configs import inpainting256_attennorm


def get_config() -> InpaintingConfig:
    """The paper's setting with this network."""
    config = inpainting256_attennorm.get_config("contextual")
    config.name = "paris_contextual"
    return config
