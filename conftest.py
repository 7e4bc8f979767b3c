"""The page's modules need Gradio (extra `demo`): their doctests are collected where it is installed."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("gradio") else ["attennorm_tf/demo/*"]
