"""The functions of an exported model: names, shapes and ranges of what goes in and out.

Inpainting:

    serving_default  image_bytes (B,) string, mask_bytes (B,) string -> inpainted_bytes (B,) string
    tensors          images (B, H, W, 3) float32, masks (B, H, W, 1) float32
                     -> inpainted (B, H, W, 3), outputs (B, H, W, 3), layout (B, ceil(H / 4), ceil(W / 4), n)

Generation:

    serving_default  class_ids (N,) int32, seeds (N,) int64, truncation (N,) float32 -> image_bytes (N,) string
    latents          latents (N, latent_dim) float32, class_ids (N,) int32 -> images (N, R, R, C), layout (N, h, w, n)
    blend            latents (N, latent_dim) float32, class_weights (N, K) float32 -> images, layout

`layout` is there where the network has attentive normalization.
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf

from attennorm_tf.export.image_bytes import decode_requests, encode_results
from attennorm_tf.export.latents import latents_of_seeds
from attennorm_tf.export.request_checks import (
    Limits,
    after,
    batch_checks,
    class_checks,
    finite_checks,
    mask_checks,
    pixel_checks,
    range_checks,
    require,
    truncation_checks,
    weight_checks,
)

MULTIPLE = 8  # of the height and width that both inpainting networks take
LAYOUT_STRIDE = 4

Outputs = dict[str, tf.Tensor]


def inpainting_signatures(network: Any, limits: Limits) -> dict[str, Any]:
    """`tf.function`s of an inpainting network.

    Args:
        network: folded: images and masks, sizes multiples of 8 -> {"outputs"} and, maybe, "layout".
        limits: of a request.
    """

    def serving_default(image_bytes: tf.Tensor, mask_bytes: tf.Tensor) -> Outputs:
        rgba, holes = decode_requests(image_bytes, mask_bytes, limits)
        rgb = rgba[..., :3]
        images = tf.cast(rgb, tf.float32) / 127.5 - 1.0
        fine = inpaint_tensors(network, images, tf.cast(holes, tf.float32))["outputs"]
        return {"inpainted_bytes": encode_results(tf.where(holes, to_bytes(fine), rgb), rgba[..., 3:])}

    def tensors(images: tf.Tensor, masks: tf.Tensor) -> Outputs:
        batch, height, width = tf.unstack(tf.shape(images)[:3])
        checks = batch_checks(batch, ("images", "masks"), [tf.shape(masks)[0]], limits)
        checks += pixel_checks("images", batch, height, width, limits)
        same = tf.reduce_all(tf.equal(tf.shape(masks)[1:3], [height, width]))
        checks.append(
            require(
                same, "masks: ", tf.shape(masks)[2], " x ", tf.shape(masks)[1], " pixels, the images are ", width,
                " x ", height, "; they must be of one size.",
            )
        )  # fmt: skip
        images, masks = after(checks, images, masks)
        checks = range_checks("images", images, -1.0, 1.0) + mask_checks("masks", masks)
        return inpaint_tensors(network, *after(checks, images, masks))

    return {
        "serving_default": _signature(serving_default, image_bytes=([None], tf.string), mask_bytes=([None], tf.string)),
        "tensors": _signature(
            tensors, images=([None, None, None, 3], tf.float32), masks=([None, None, None, 1], tf.float32)
        ),
    }


def inpaint_tensors(network: Any, images: tf.Tensor, masks: tf.Tensor) -> Outputs:
    """Any size through the network: reflected to multiples of 8 at the right and bottom edge, and cut back.

    Args:
        network: folded.
        images: (b, h, w, 3) in [-1, 1].
        masks: (b, h, w, 1), 1 or 0.

    Returns:
        "outputs", the network's own; "inpainted", known pixels exactly those of `images`; "layout", where there is one.
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    outputs = network(_reflected(images, height, width), _reflected(masks, height, width))
    fine = outputs["outputs"][:, :height, :width]
    results = {"inpainted": tf.where(masks > 0.0, fine, images), "outputs": fine}
    if "layout" in outputs:
        rows, columns = ((size + LAYOUT_STRIDE - 1) // LAYOUT_STRIDE for size in (height, width))
        results["layout"] = outputs["layout"][:, :rows, :columns]
    return results


def generation_signatures(network: Any, latent_dim: int, num_classes: int, limits: Limits) -> dict[str, Any]:
    """`tf.function`s of a class-conditional generator.

    Args:
        network: folded: latents and labels -> {"images"} and, maybe, "layout".
        latent_dim: length of z.
        num_classes: K.
        limits: of a request; only its `max_batch` matters.
    """

    def serving_default(class_ids: tf.Tensor, seeds: tf.Tensor, truncation: tf.Tensor) -> Outputs:
        sizes = [tf.size(seeds), tf.size(truncation)]
        checks = batch_checks(tf.size(class_ids), ("class_ids", "seeds", "truncation"), sizes, limits)
        class_ids, seeds, truncation = after(checks, class_ids, seeds, truncation)
        checks = class_checks(class_ids, num_classes) + truncation_checks(truncation)
        class_ids, seeds, truncation = after(checks, class_ids, seeds, truncation)
        images = network(latents_of_seeds(seeds, truncation, latent_dim), class_ids)["images"]
        encoded = tf.map_fn(tf.io.encode_png, to_bytes(images), fn_output_signature=tf.TensorSpec([], tf.string))
        return {"image_bytes": encoded}

    def latents_and(labels_name: str, checks_of: Callable[[tf.Tensor], list[Any]]) -> Callable[..., Outputs]:
        def function(latents: tf.Tensor, labels: tf.Tensor) -> Outputs:
            names = ("latents", labels_name)
            checks = batch_checks(tf.shape(latents)[0], names, [tf.shape(labels)[0]], limits)
            latents, labels = after(checks, latents, labels)
            return network(*after(finite_checks("latents", latents) + checks_of(labels), latents, labels))

        return function

    by_id = latents_and("class_ids", lambda class_ids: class_checks(class_ids, num_classes))
    by_weight = latents_and("class_weights", weight_checks)
    latents_spec = ([None, latent_dim], tf.float32)
    return {
        "serving_default": _signature(
            serving_default, class_ids=([None], tf.int32), seeds=([None], tf.int64), truncation=([None], tf.float32)
        ),
        "latents": _signature(
            lambda latents, class_ids: by_id(latents, class_ids), latents=latents_spec, class_ids=([None], tf.int32)
        ),
        "blend": _signature(
            lambda latents, class_weights: by_weight(latents, class_weights),
            latents=latents_spec,
            class_weights=([None, num_classes], tf.float32),
        ),
    }


def bare_signatures(network: Any, latent_dim: int | None = None, num_classes: int | None = None) -> dict[str, Any]:
    """Those of them that take floats, without any checks: for runtimes that cannot tell what was wrong.

    Args:
        network: folded.
        latent_dim: length of a generator's z; None for an inpainting network.
        num_classes: of a generator.
    """
    if latent_dim is None:
        return {
            "tensors": _signature(
                lambda images, masks: inpaint_tensors(network, images, masks),
                images=([None, None, None, 3], tf.float32),
                masks=([None, None, None, 1], tf.float32),
            )
        }
    latents = ([None, latent_dim], tf.float32)
    return {
        "latents": _signature(
            lambda latents, class_ids: network(latents, class_ids), latents=latents, class_ids=([None], tf.int32)
        ),
        "blend": _signature(
            lambda latents, class_weights: network(latents, class_weights),
            latents=latents,
            class_weights=([None, num_classes], tf.float32),
        ),
    }


def to_bytes(images: tf.Tensor) -> tf.Tensor:
    """[-1, 1] -> uint8, rounded to the nearest, halves to even."""
    return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0), tf.uint8)


def _reflected(images: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Continued by reflection, over and over where they are smaller than what is missing (`tf.pad` refuses that)."""
    for axis, size in ((1, height), (2, width)):
        period = tf.maximum(2 * (size - 1), 1)
        places = tf.range((size + MULTIPLE - 1) // MULTIPLE * MULTIPLE) % period
        images = tf.gather(images, tf.minimum(places, period - places), axis=axis)
    return images


def _signature(function: Callable[..., Outputs], **inputs: tuple[list[Any], tf.DType]) -> Any:
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()]
    return tf.function(function, input_signature=specs, autograph=False)
