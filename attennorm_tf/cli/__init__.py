"""Console commands."""

import sys

from attennorm_tf.cli.start_up import import_tensorflow

import_tensorflow(sys.argv[1:])
