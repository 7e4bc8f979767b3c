"""Attentive Normalization for Conditional Image Generation (CVPR 2020) in TensorFlow 2 and Keras."""
