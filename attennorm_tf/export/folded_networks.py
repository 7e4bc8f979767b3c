"""The trained networks at inference, made of folded layers: the same function, without what only training needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.export.folded_layers import (
    FoldedAttention,
    FoldedConvolution,
    FoldedSelfAttention,
    PlainWeights,
    batch_norm_affine,
    plain_weights,
    variable,
)
from attennorm_tf.layers.contextual_attention import contextual_attention, resize_nearest_aligned
from attennorm_tf.layers.shapes import sizes_of
from attennorm_tf.models import ClassConditionalGenerator, ContextualAttentionInpainter, InpaintingGenerator
from attennorm_tf.models.convolution_stack import ACTIVATIONS, Convolution
from attennorm_tf.models.inpainting import clipped, masked_input

Outputs = dict[str, tf.Tensor]


class FoldedStack(tf.Module):
    """A `ConvolutionStack`.

    Args:
        stack: built.
        name: of the variables.
    """

    def __init__(self, stack: Any, name: str):
        super().__init__(name=name)
        self.convolutions = []
        for index, (values, layer) in enumerate(zip(stack.convolutions, stack.layers)):
            one = Convolution(*values)
            self.convolutions.append(
                FoldedConvolution(
                    plain_weights(layer),
                    one.stride,
                    one.dilation,
                    ACTIVATIONS[one.activation],
                    one.doubled,
                    f"{name}_conv{index + 1}",
                )
            )

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        for convolution in self.convolutions:
            inputs = convolution(inputs)
        return inputs


class FoldedInpainter(tf.Module):
    """`InpaintingGenerator`: images and masks -> {"outputs", "layout"}; H and W multiples of 4.

    Args:
        model: built.
    """

    def __init__(self, model: InpaintingGenerator):
        super().__init__(name="inpainter")
        names = (
            "encoder1", "bottleneck1", "decoder1", "encoder2_attentive", "attentive_in", "attentive_out", "encoder2",
            "bottleneck2", "decoder2",
        )  # fmt: skip
        self.stacks = {name: FoldedStack(getattr(model, name), name) for name in names}
        self.attention = FoldedAttention(model.attention)
        self._concat = model.stage2_input == "concat"

    def __call__(self, images: tf.Tensor, masks: tf.Tensor) -> Outputs:
        parts = self.stacks
        known = images * (1.0 - masks)
        hidden = parts["bottleneck1"](parts["encoder1"](masked_input(known, masks)))
        coarse = clipped(parts["decoder1"](hidden))
        if self._concat:
            second = tf.concat([coarse, known], axis=-1)
        else:
            second = masked_input(coarse * masks + known, masks)
        attended, layout = self.attention(parts["attentive_in"](parts["encoder2_attentive"](second)))
        attended = parts["attentive_out"](tf.nn.elu(attended))
        plain = parts["bottleneck2"](parts["encoder2"](second))
        fine = clipped(parts["decoder2"](tf.concat([attended, plain], axis=-1)))
        return {"outputs": fine, "layout": layout}


class FoldedContextualInpainter(tf.Module):
    """`ContextualAttentionInpainter`: images and masks -> {"outputs"}; H and W multiples of 8.

    Args:
        model: built.
    """

    def __init__(self, model: ContextualAttentionInpainter):
        super().__init__(name="inpainter")
        names = ("stage1", "plain", "attention_in", "attention_out", "decoder2")
        self.stacks = {name: FoldedStack(getattr(model, name), name) for name in names}
        self._scale, self._fuse = model.attention.softmax_scale, model.attention.fuse

    def __call__(self, images: tf.Tensor, masks: tf.Tensor) -> Outputs:
        parts = self.stacks
        known = images * (1.0 - masks)
        coarse = clipped(parts["stage1"](masked_input(known, masks)))
        second = masked_input(coarse * masks + known, masks)
        hidden = parts["attention_in"](second)
        height, width = sizes_of(hidden)[1:3]
        small = resize_nearest_aligned(masks, height, width)
        small.set_shape((*hidden.shape[:3], 1))
        attended, _ = contextual_attention(hidden, hidden, small, self._scale, self._fuse)
        both = tf.concat([parts["plain"](second), parts["attention_out"](attended)], axis=-1)
        return {"outputs": clipped(parts["decoder2"](both))}


class FoldedGenerator(tf.Module):
    """`ClassConditionalGenerator`: latents and class ids or weights -> {"images"} and, where there is one, "layout".

    The tables of all conditional batch normalizations are one, read by one gather or one product.

    Args:
        model: built.
    """

    def __init__(self, model: ClassConditionalGenerator):
        super().__init__(name="generator")
        dense = plain_weights(model.dense)
        self.dense_kernel = variable("dense/kernel", dense.kernel)
        self.dense_bias = variable("dense/bias", dense.bias)
        self.blocks: list[_FoldedBlock] = []
        tables: list[np.ndarray] = []
        for block in model.blocks:
            folded = _FoldedBlock(block)
            self.blocks.append(folded)
            tables += folded.tables
        self._widths = [table.shape[1] for table in tables]
        self.tables = variable("class_tables", np.concatenate(tables, axis=1))
        self.attention_after = None
        self._attention_index = model.blocks.index(
            next((block for block in model.blocks if block.attention_options is not None), model.blocks[0])
        )
        if model.self_attention is not None:
            self.attention_after = FoldedSelfAttention(model.self_attention)
            self._attention_index = model._attention_index
        self.norm = _FoldedAffine(batch_norm_affine(model.norm), "norm")
        self.to_image = FoldedConvolution(plain_weights(model.to_image), activation=tf.tanh, name="to_image")

    def __call__(self, latents: tf.Tensor, labels: tf.Tensor) -> Outputs:
        soft = labels.dtype.is_floating
        rows = tf.linalg.matmul(labels, self.tables) if soft else tf.gather(self.tables, labels)
        tables = iter(tf.split(rows[:, tf.newaxis, tf.newaxis, :], self._widths, axis=3))
        hidden = tf.nn.bias_add(tf.linalg.matmul(latents, self.dense_kernel), self.dense_bias)
        hidden = tf.reshape(hidden, [-1, 4, 4, hidden.shape[1] // 16])
        outputs: Outputs = {}
        for index, block in enumerate(self.blocks):
            hidden, layout = block(hidden, tables)
            if layout is not None:
                outputs["layout"] = layout
            if index == self._attention_index and self.attention_after is not None:
                hidden = self.attention_after(hidden)
        outputs["images"] = self.to_image(tf.nn.relu(self.norm(hidden)))
        return outputs


class _FoldedAffine(tf.Module):
    """(x - mean) * scale + offset; the mean only where `batch_norm_affine` gives one."""

    def __init__(self, affine: Any, name: str):
        super().__init__(name=name)
        self.mean = variable(f"{name}/mean", affine.mean) if affine.mean.any() else None
        own = affine.scale.ndim == 1
        self.scale = variable(f"{name}/scale", affine.scale) if own else None
        self.offset = variable(f"{name}/offset", affine.offset) if own else None

    def __call__(self, inputs: tf.Tensor, scale: Any = None, offset: Any = None) -> tf.Tensor:
        if self.mean is not None:
            inputs = inputs - self.mean
        return inputs * (self.scale if scale is None else scale) + (self.offset if offset is None else offset)


class _FoldedBlock(tf.Module):
    """An `UpBlock`; `tables` are the classes' scales and offsets that a call takes from the iterator given to it."""

    def __init__(self, block: Any):
        super().__init__(name=block.name)
        name = block.name
        first = batch_norm_affine(block.norm1)
        self.tables = [first.scale, first.offset]
        self.norm1 = _FoldedAffine(first, f"{name}_norm1")
        conv1, conv2, shortcut = (plain_weights(part) for part in (block.conv1, block.conv2, block.shortcut))
        self.attention = None
        if block.attention_options is not None:
            self.attention = FoldedAttention(block.norm2)
        else:
            second = batch_norm_affine(block.norm2, centred=True)
            self.tables += [second.scale, second.offset]
            conv1 = PlainWeights(conv1.kernel, conv1.bias - second.mean)
        self.conv1 = FoldedConvolution(conv1, double=True, name=f"{name}_conv1")
        # Upsampling leaves a constant as it is: one bias for both.
        both = PlainWeights(conv2.kernel, conv2.bias + shortcut.bias)
        self.conv2 = FoldedConvolution(both, name=f"{name}_conv2")
        self.shortcut = variable(f"{name}_shortcut/kernel", shortcut.kernel)

    def __call__(self, inputs: tf.Tensor, tables: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        layout = None
        hidden = self.conv1(tf.nn.relu(self.norm1(inputs, next(tables), next(tables))))
        if self.attention is not None:
            hidden, layout = self.attention(hidden)
        else:
            hidden = hidden * next(tables) + next(tables)
        hidden = self.conv2(tf.nn.relu(hidden))
        height, width = sizes_of(hidden)[1:3]
        shortcut = tf.nn.conv2d(inputs, self.shortcut, 1, "SAME")
        return hidden + tf.image.resize(shortcut, [height, width], method="nearest"), layout


def folded_network(model: Any) -> Any:
    """The folded form of any generator of this package.

    Raises:
        ValueError: another model.
    """
    for kind, folded in (
        (InpaintingGenerator, FoldedInpainter),
        (ContextualAttentionInpainter, FoldedContextualInpainter),
        (ClassConditionalGenerator, FoldedGenerator),
    ):
        if isinstance(model, kind):
            return folded(model)
    raise ValueError(
        "model must be an InpaintingGenerator, ContextualAttentionInpainter or ClassConditionalGenerator, got "
        f"{type(model).__name__}."
    )
