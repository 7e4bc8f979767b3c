"""SavedModels with the signatures of exported networks, but with arithmetic whose answer can be told beforehand.

What is sent and what comes back is then compared with a closed form; the networks' own answers are compared where the
networks are exported.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image


def write_filler(folder: Path, level: int) -> Path:
    """An inpainting model that fills holes with one grey level: another level, another version."""
    module = tf.Module()
    module.level = tf.Variable(level / 127.5 - 1.0, dtype=tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], name="images"),
            tf.TensorSpec([None, None, None, 1], name="masks"),
        ]
    )
    def tensors(images: tf.Tensor, masks: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.fill(tf.shape(images), module.level)
        return {"inpainted": masks * outputs + (1.0 - masks) * images, "outputs": outputs}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="image_bytes"),
            tf.TensorSpec([None], tf.string, name="mask_bytes"),
        ]
    )
    def serve(image_bytes: tf.Tensor, mask_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def fill(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image = tf.io.decode_image(pair[0], 3, expand_animations=False)
            mask = tf.io.decode_image(pair[1], 1, expand_animations=False)
            with tf.control_dependencies(
                [tf.debugging.assert_equal(tf.shape(image)[:2], tf.shape(mask)[:2], "image and mask differ in size")]
            ):
                level = tf.cast(tf.round((module.level + 1.0) * 127.5), tf.uint8)
                return tf.io.encode_png(tf.where(mask >= 128, level, image))

        return {"inpainted_bytes": tf.map_fn(fill, (image_bytes, mask_bytes), fn_output_signature=tf.string)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve, "tensors": tensors})
    return folder


def write_generator(folder: Path, num_classes: int = 3, side: int = 4) -> Path:
    """A generator whose image has three even channels: 10 * class, seed, 100 * truncation."""
    module = tf.Module()
    module.step = tf.Variable(10.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, name="class_ids"),
            tf.TensorSpec([None], tf.int64, name="seeds"),
            tf.TensorSpec([None], tf.float32, name="truncation"),
        ]
    )
    def serve(class_ids: tf.Tensor, seeds: tf.Tensor, truncation: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(class_ids, num_classes, "class out of range")]):
            columns = [module.step * tf.cast(class_ids, tf.float32), tf.cast(seeds, tf.float32), 100.0 * truncation]
        pixels = tf.cast(tf.tile(tf.stack(columns, -1)[:, None, None, :], [1, side, side, 1]), tf.uint8)
        return {"image_bytes": tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    """A PNG file's pixels."""
    return np.asarray(Image.open(io.BytesIO(file)))


def photo_and_mask(height: int = 12, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a mask with a rectangular hole."""
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[2 : height // 2, 3 : width // 2] = 255
    return photo, mask
