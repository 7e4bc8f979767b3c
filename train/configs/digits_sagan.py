"""Self-attention on handwritten digits, 16x16: the demo's experiment with SAGAN's networks.

python -m train.gan --config=train/configs/digits_sagan.py --workdir=runs/digits_sagan

Result: not run.
"""

from attennorm_tf.config import GanConfig
from train.configs import digits_attennorm


def get_config() -> GanConfig:
    """The demo's settings, another preset."""
    return digits_attennorm.get_config("sagan")
