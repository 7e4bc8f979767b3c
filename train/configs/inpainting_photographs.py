"""Photographs that come with scikit-learn and scikit-image, 64x64: the inpainting demo.

python -m train.inpainting --config=train/configs/inpainting_photographs.py --workdir=runs/photographs

Result: PSNR in the hole 16.86 dB on three photographs held out (mean colour 14.89); 138 s in all on 2 cores.
"""

from attennorm_tf.config import InpaintingConfig


def get_config() -> InpaintingConfig:
    """A few minutes on two CPU cores."""
    config = InpaintingConfig(name="photographs")
    config.data.min_crop_scale = 0.3
    config.masks.height = config.masks.width = 24
    config.masks.shrink = 8
    config.model.resolution = 64
    config.model.width = 0.25
    config.model.discriminator_width = 0.25
    config.model.num_entities = 8
    config.model.temperature = 1.0
    config.training.steps = 1500
    config.training.phase_two_step = 1500
    config.training.learning_rate = 1e-3
    config.training.final_learning_rate = 1e-4
    config.training.decay_steps = 1500
    config.training.beta_2 = 0.99
    config.training.hole_weight = 5.0
    config.training.ema_decay = 0.99
    config.training.validate_every_steps = 500
    config.logging.image_every_steps = 500
    config.logging.checkpoint_every_steps = 500
    return config
