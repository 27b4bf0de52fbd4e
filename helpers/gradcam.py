"""Grad-CAM: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks" (2017)."""

import cv2
import keras
import numpy as np
import tensorflow as tf


class GradCAM:
    """Maps of where a layer holds evidence for a class.

    For feature maps A (h, w, K) of the layer and the logit y of the class, the weight of channel k
    is the mean over all places of dy/dA_k, and the map is ReLU(sum_k weight_k A_k). It is the logit
    that is explained, not the softmax probability, whose gradient also depends on the other classes
    and vanishes where the network is sure.

    Args:
        model: functional, with the layers `layer` and `logits`.
        layer: name of the layer whose output (N, h, w, K) is explained.
        logits: name of the layer that gives the class scores before softmax, (N, classes).

    Raises:
        ValueError: no such layer, or one whose output has no height and width.
    """

    def __init__(self, model: keras.Model, layer: str = "features", logits: str = "logits"):
        spatial = [each.name for each in model.layers if len(_shape(each)) == 4]
        if layer not in spatial:
            raise ValueError(
                f"'{layer}' is no layer with height and width; these are: {', '.join(spatial)}."
            )
        if logits not in [each.name for each in model.layers if len(_shape(each)) == 2]:
            raise ValueError(f"The model has no layer '{logits}' with one score per class.")
        outputs = [model.get_layer(layer).output, model.get_layer(logits).output]
        self._to_features_and_logits = keras.Model(model.input, outputs)
        self._picture_shape = tuple(model.input_shape[1:])
        self._classes = _shape(model.get_layer(logits))[-1]
        # One signature: one trace, whatever the batch size.
        self._maps = tf.function(
            self._maps,
            input_signature=[
                tf.TensorSpec((None, *self._picture_shape), tf.float32),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def __call__(self, images, class_indices=None, batch_size: int = 256) -> np.ndarray:
        """Explain pictures.

        Args:
            images: (N, H, W, 3) raw pixels, 0 to 255, any dtype.
            class_indices: the class to explain per picture, integer (N,); the predicted one if None.
            batch_size: pictures per step.

        Returns:
            float32 (N, h, w), not negative, in units of the logit per feature place; zero where
            nothing speaks for the class.

        Raises:
            ValueError: pictures or class indices of another shape, or indices out of range.
        """
        images = np.asarray(images)
        if images.ndim != len(self._picture_shape) + 1 or any(
            want not in (None, got) for want, got in zip(self._picture_shape, images.shape[1:])
        ):
            raise ValueError(
                f"images have the shape {images.shape}, the model wants (N, {_text(self._picture_shape)})."
                " One picture is images[None]; grey pictures need three channels."
            )
        if class_indices is None:
            class_indices = np.full(len(images), -1)
        else:
            class_indices = np.asarray(class_indices)
            if class_indices.shape != (len(images),) or class_indices.dtype.kind not in "iu":
                raise ValueError(
                    f"class_indices is {class_indices.dtype} {class_indices.shape}; "
                    f"one integer per picture is needed, ({len(images)},)."
                )
            if np.any((class_indices < 0) | (class_indices >= self._classes)):
                wrong = class_indices[(class_indices < 0) | (class_indices >= self._classes)][0]
                raise ValueError(
                    f"Class index {wrong} is out of range; there are 0 to {self._classes - 1}."
                )
        steps = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
        return np.concatenate([
            self._maps(images[step].astype(np.float32), class_indices[step].astype(np.int32)).numpy()
            for step in steps
        ])  # fmt: skip

    def _maps(self, images, class_indices):
        with tf.GradientTape() as tape:
            features, logits = self._to_features_and_logits(images, training=False)
            predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
            class_indices = tf.where(class_indices < 0, predicted, class_indices)
            # Pictures do not mix, so one sum gives every picture its own gradient.
            score = tf.reduce_sum(tf.gather(logits, class_indices, axis=1, batch_dims=1))
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2))
        return tf.nn.relu(tf.einsum("nhwk,nk->nhw", features, weights))


def _shape(layer) -> tuple:
    output = getattr(layer, "output", None)
    return tuple(getattr(output, "shape", ()))


def _text(shape) -> str:
    return ", ".join("any" if side is None else str(side) for side in shape)


def normalise(maps: np.ndarray) -> np.ndarray:
    """Divide every map of (N, h, w) by its own maximum; a map of zeros stays zeros."""
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (no shift): (N, h, w) to float32 (N, *size)."""
    return tf.image.resize(maps[..., None], size).numpy()[..., 0]


def overlay(
    image: np.ndarray, heat: np.ndarray, strength: float = 0.5, colormap=cv2.COLORMAP_INFERNO
):
    """Blend a heat map into a picture.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: float (H, W), 0 to 1.
        strength: share of the heat map's colour in the result.
        colormap: one of OpenCV's.

    Returns:
        uint8 (H, W, 3), RGB. OpenCV's colour maps are BGR; shown as RGB, hot would turn blue.
    """
    levels = np.round(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(np.ascontiguousarray(image), 1 - strength, colors, strength, 0)
