"""As inpainting_facades, but with brush strokes as holes: the global and the masked patch discriminator in phase two.

python -m train.inpainting --config=train/configs/inpainting_free_form.py --config.data.root=path/to/photographs \
    --workdir=runs/free_form [--config.masks.kind=thick] [--config.masks.kind=folder --config.masks.root=path/to/masks]

Result: not run
"""

from attennorm_tf.config import InpaintingConfig
from train.configs import inpainting_facades


def get_config(network: str = "attentive") -> InpaintingConfig:
    """Holes of any shape, at 128x128."""
    config = inpainting_facades.get_config(network)
    config.name = f"free_form_{network}"
    config.masks.kind = "free_form"
    config.masks.max_length = 32
    config.masks.max_width = 16
    return config
