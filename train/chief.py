"""What a training command says: with several workers the chief says it for all."""

from __future__ import annotations

import logging
from typing import Callable

from attennorm_tf.training.workers import Workers


def chief_speaks(workers: Workers) -> Callable[[str], None]:
    """`print` at the chief, nothing at another worker; of the package's log another worker shows errors only."""
    if workers.is_chief:
        return lambda text: print(text, flush=True)
    logging.getLogger("attennorm_tf").setLevel(logging.ERROR)
    return lambda text: None
