"""Keras layers: the attentive normalization, the parts it is made of, and the layers it is compared with."""
