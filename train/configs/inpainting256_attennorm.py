"""The paper's inpainting experiment: 256x256, holes of 96 to 128 pixels a side, Adam 1e-4, batch 16, both phases.

python -m train.inpainting --config=train/configs/inpainting256_attennorm.py --config.data.root=path/to/photographs \
    --workdir=runs/inpainting256

Result: not run (the paper's setting; it needs GPUs)
"""

from attennorm_tf.config import InpaintingConfig


def get_config(network: str = "attentive") -> InpaintingConfig:
    """`inpainting256_attennorm.py:contextual` trains the contextual-attention baseline the same way."""
    config = InpaintingConfig(name=f"inpainting256_{network}")
    config.model.network = network
    config.data.name = "image_folder"
    config.data.root = "photographs"
    config.data.skip_corrupt = True
    return config
