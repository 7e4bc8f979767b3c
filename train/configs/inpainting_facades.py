"""Street photographs at 128x128, holes of 48 to 64 pixels a side, networks of reduced width, for two CPU cores.

python -m train.inpainting --config=train/configs/inpainting_facades.py --config.data.root=path/to/photographs \
    --workdir=runs/facades

Result: PSNR in the hole 19.03 dB on 55 photographs held out of 447 facades (OpenCV's Telea 17.03, mean colour 15.91);
`:contextual` 18.95. 7000 steps, 56 and 63 minutes on one CPU core each. Phase two: --config.training.steps=7350.
"""

from attennorm_tf.config import InpaintingConfig


def get_config(network: str = "attentive") -> InpaintingConfig:
    """`inpainting_facades.py:contextual` trains the baseline on the same data, masks, steps and seed."""
    config = InpaintingConfig(name=f"facades_{network}")
    config.data.name = "image_folder"
    config.data.root = "photographs"
    config.data.min_crop_scale = 0.8
    config.masks.height = config.masks.width = 64
    config.masks.shrink = 16
    config.model.network = network
    config.model.resolution = 128
    config.model.width = 0.375
    config.model.discriminator_width = 0.375
    config.model.num_entities = 8
    config.model.temperature = 1.0
    config.training.steps = 7000
    config.training.phase_two_step = 7000
    config.training.batch_size = 8
    config.training.learning_rate = 1e-3
    config.training.final_learning_rate = 1e-4
    config.training.decay_steps = 7000
    config.training.beta_2 = 0.99
    config.training.hole_weight = 10.0
    config.training.ema_decay = 0.995
    config.training.validate_every_steps = 500
    config.training.steps_per_call = 10
    config.logging.log_every_steps = 100
    config.logging.image_every_steps = 1750
    config.logging.checkpoint_every_steps = 500
    return config
