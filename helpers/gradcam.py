"""Where a network holds evidence for a class: Grad-CAM and its close relatives.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), Grad-CAM++ (Chattopadhay et al. 2018, arXiv
1710.11063), HiResCAM (Draelos and Carin 2020, arXiv 2011.08891), LayerCAM (Jiang et al. 2021,
doi 10.1109/TIP.2021.3089943).
"""

import cv2
import keras
import numpy as np
import tensorflow as tf


# Feature maps A and the score's gradient G at them, both (n, h, w, K), to maps (n, h, w).
def _gradcam(A, G):
    return tf.einsum("nhwk,nk->nhw", A, tf.reduce_mean(G, axis=(1, 2)))


def _gradcam_plus_plus(A, G):
    # The paper's derivatives of exp(score) are exp(score) times G, G^2, G^3; alpha is
    # G^2 / (2 G^2 + sum(A) G^3), here with G^2 cancelled.
    alpha = tf.math.divide_no_nan(1.0, 2 + tf.reduce_sum(A, axis=(1, 2), keepdims=True) * G)
    return tf.einsum("nhwk,nk->nhw", A, tf.reduce_sum(alpha * tf.nn.relu(G), axis=(1, 2)))


METHODS = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "hirescam": lambda A, G: tf.reduce_sum(A * G, axis=-1),
    "layercam": lambda A, G: tf.reduce_sum(A * tf.nn.relu(G), axis=-1),
}


class GradCAM:
    """Maps of where a layer holds evidence for a class; built once per model, then called.

    With feature maps A (h, w, K), the logit y and its gradient G = dy/dA, the map is the ReLU of

    - gradcam: sum_k mean(G_k) A_k, the mean over all places;
    - gradcam++: sum_k w_k A_k, w_k = sum over places of relu(G_k) / (2 + sum(A_k) G_k). The paper's
      factor exp(y), one number per picture, is left out: it would bury any comparison of strength.
      Made for a layer after a ReLU (A >= 0);
    - hirescam: sum_k G_k A_k;
    - layercam: sum_k relu(G_k) A_k.

    The logit is explained, not the probability, whose gradient also depends on the other classes
    and vanishes where the network is sure. So a softmax or sigmoid at the model's very end is left
    out, be it a layer or a layer's activation; any other output is explained as it is. The model
    stays as it is; when its weights change, so do the maps.

    Args:
        model: functional, sequential or subclassed, from pictures (N, H, W, channels), H and W
            fixed or open, to scores (N, classes); its layers may be models; any dtype policy. One
            without an input shape takes that of the first pictures.
        layer: name of the layer whose output (N, h, w, K) is explained, as a path like
            "backbone/conv" where the name is not unique; of several uses, the last. By default the
            last output before the scores with height and width other than 1x1; see `self.layer`.
        method: one of METHODS.

    Raises:
        ValueError: no such method; no such layer, or it has no height and width or no influence on
            the scores; a model of another form.
    """

    def __init__(self, model: keras.Model, layer: str | None = None, method: str = "gradcam"):
        if method not in METHODS:
            raise ValueError(f"No method '{method}'; there are: {', '.join(METHODS)}.")
        if not isinstance(model, keras.Model):
            kind = type(model).__name__
            raise ValueError(f"model is a {kind}, no Keras model; Run.network gives a run's.")
        if keras.backend.backend() != "tensorflow":
            raise ValueError("GradCAM needs Keras on TensorFlow: KERAS_BACKEND=tensorflow.")
        self.layer, self.method, self._model = layer, method, model
        self._picture_shape = None
        if inputs := getattr(model, "inputs", None):
            if len(inputs) != 1 or len(inputs[0].shape) != 4:
                raise ValueError(f"The model must take pictures (N, H, W, K), not {_text(inputs)}.")
            self._trace(inputs[0].shape[1:])

    def __call__(self, images, class_indices=None, against=None, batch_size: int = 256):
        """Explain pictures.

        Args:
            images: real numbers (N, H, W, channels), as the model takes them; for the course's
                network raw pixels, 0 to 255.
            class_indices: the class to explain, integer (N,) or one for all; by default the
                predicted one.
            against: explain "that class rather than this one", the difference of their two logits;
                integer (N,) or one for all.
            batch_size: pictures per step; memory grows with it, not with N.

        Returns:
            float32 (N, h, w), not negative, not rescaled; in units of the logit per feature place
            (gradcam++: of no unit). Zeros where nothing speaks for the class; (0, h, w) for no
            pictures.

        Raises:
            ValueError: pictures, class indices or a batch size of another form; indices out of
                range; NaN or infinity in the pictures, in the weights or on the way.
        """
        images = np.asarray(images)
        if images.dtype.kind not in "biuf":
            raise ValueError(f"images are {images.dtype}; real numbers are needed.")
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size = {batch_size!r}: a whole number from 1 on is needed.")
        want = self._picture_shape or (None, None, None)
        if images.ndim != 4 or any(a not in (None, b) for a, b in zip(want, images.shape[1:])):
            raise ValueError(
                f"images have the shape {images.shape}, the model wants {(None, *want)}, None for "
                "any number. One picture is images[None]; grey pictures need three channels."
            )
        if images.dtype.kind == "f" and not (fine := np.isfinite(images)).all():
            first = np.argmin(fine.all(axis=(1, 2, 3)))
            raise ValueError(f"NaN or infinity in the pictures, first in images[{first}].")
        if self._picture_shape is None:
            if not self._model.built:
                self._model(keras.Input(images.shape[1:]))
            self._trace(images.shape[1:])
        classes = self._indices("class_indices", class_indices, len(images))
        against = self._indices("against", against, len(images))
        if not len(images):  # a blank picture tells h and w; TensorFlow's CPU kernels refuse none
            return self(np.zeros((1, *images.shape[1:])))[:0]

        maps = []
        for start in range(0, len(images), batch_size):
            step = slice(start, start + batch_size)
            heat, finite = self._maps(images[step].astype(np.float32), classes[step], against[step])
            if not np.all(finite):
                self._explain_nan(start + np.argmin(finite))
            maps.append(heat.numpy())
        return np.concatenate(maps)

    def _trace(self, picture_shape):
        # One signature: one trace, whatever the batch size.
        indices = tf.TensorSpec((None,), tf.int32)
        maps = tf.function(
            self._maps, autograph=False,
            input_signature=[tf.TensorSpec((None, *picture_shape), tf.float32), indices, indices],
        )  # fmt: skip
        maps.get_concrete_function()  # finds what is wrong with model and layer
        self._maps, self._picture_shape = maps, tuple(picture_shape)

    def _maps(self, images, classes, against):
        """Runs once, to be traced: layer and logits are found in the graph it makes."""
        scores, outputs = _run(self._model, images)
        scores = tf.nest.flatten(scores)
        if len(scores) != 1 or scores[0].shape.rank != 2:
            raise ValueError(f"The model must give scores (N, classes), not {_text(scores)}.")
        self.layer, features = _find(outputs, self.layer)
        logits = tf.cast(_before_activation(scores[0]), tf.float32)
        self._classes = logits.shape[1]

        predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
        score = tf.gather(logits, tf.where(classes < 0, predicted, classes), batch_dims=1)
        other = tf.gather(logits, tf.maximum(against, 0), batch_dims=1)
        # Pictures do not mix, so the gradient of the sum is every picture's own. The way back ends
        # at the features: the layers before them cost nothing.
        score = tf.reduce_sum(score - tf.where(against < 0, 0.0, other))
        (gradient,) = tf.gradients(score, features)
        if gradient is None:
            raise ValueError(f"The scores do not depend on the output of '{self.layer}'.")
        maps = METHODS[self.method](tf.cast(features, tf.float32), tf.cast(gradient, tf.float32))
        finite = tf.reduce_all(tf.math.is_finite(maps), axis=(1, 2))
        return tf.nn.relu(maps), finite & tf.reduce_all(tf.math.is_finite(logits), axis=1)

    def _indices(self, name, indices, count):
        """int32 (count,), -1 for the default."""
        if indices is None:
            return np.full(count, -1, np.int32)
        indices = np.asarray(indices, None if np.size(indices) else int)
        if indices.shape not in ((), (count,)) or indices.dtype.kind not in "iu":
            form = f"one integer per picture, ({count},), or one for all is needed"
            raise ValueError(f"{name} is {indices.dtype} {indices.shape}; {form}.")
        last = self._classes - 1
        if len(wrong := indices[(indices < 0) | (indices > last)]):
            raise ValueError(f"{name}: {wrong[0]} is out of range; there are 0 to {last}.")
        return np.broadcast_to(indices, count).astype(np.int32)

    def _explain_nan(self, picture):
        for each in self._model.weights:
            if not np.isfinite(np.asarray(each, np.float64)).all():
                raise ValueError(f"NaN or infinity in the weights, first in '{each.path}'.")
        raise ValueError(
            f"images[{picture}] leads to NaN or infinity, though it and the weights hold none: a "
            "number overflows. Are the pixels in the model's range? 16 bits end at 65504."
        )


def _run(model, images):
    """The model's output, and (path, output) of every layer, nested ones too, in order of running.

    The layers' `call` is replaced for the time of the run. This finds a tensor inside any kind of
    model, where `keras.Model(model.input, layer.output)` needs a flat functional one.
    """
    outputs, layers = [], {}

    def recorded(path, call):
        def wrapper(*args, **kwargs):
            outputs.append((path, call(*args, **kwargs)))
            return outputs[-1][1]

        return wrapper

    def collect(model, prefix=""):
        for layer in model.layers:
            layers.setdefault(layer, (prefix + layer.name, vars(layer).get("call")))
            if isinstance(layer, keras.Model):
                collect(layer, f"{prefix}{layer.name}/")

    collect(model)
    try:
        for layer, (path, _) in layers.items():
            vars(layer)["call"] = recorded(path, layer.call)
        return model(images, training=False), outputs
    finally:
        for layer, (_, own) in layers.items():
            vars(layer).pop("call", None)
            vars(layer).update({"call": own} if own else {})


def _find(outputs, name):
    """(path, output) of the layer of this name, or of the last one with height and width."""
    spatial = {}
    for path, output in outputs:
        if tf.is_tensor(output) and output.shape.rank == 4:
            spatial.pop(path, None)  # the last use comes last
            spatial[path] = output
    if name is None:
        maps = [each for each in spatial.values() if tuple(each.shape[1:3]) != (1, 1)]
        if not maps:
            raise ValueError("The model has no layer with height and width: no map can be drawn.")
        # A backbone's output is also its last layer's, whose name says more.
        return next((path, each) for path, each in spatial.items() if each is maps[-1])
    paths = [path for path in spatial if name in (path, path.rpartition("/")[2])]
    paths = [name] if name in paths else paths
    if len(paths) != 1:
        problem = "the name of several layers" if paths else "no layer with height and width"
        those = list(paths or spatial)
        count = f"the last ten of {len(those)}" if len(those) > 10 else "these"
        raise ValueError(f"'{name}' is {problem}; {count} are: {', '.join(those[-10:]) or 'none'}.")
    return paths[0], spatial[paths[0]]


def _before_activation(scores):
    """What a final softmax or sigmoid was computed from, else the scores themselves."""
    tensor = scores
    while tensor.op.type in ("Identity", "Cast", "Reshape", "Squeeze"):
        tensor = tensor.op.inputs[0]
    if tensor.op.type in ("Softmax", "LogSoftmax", "Sigmoid"):
        return tf.reshape(tensor.op.inputs[0], (-1, scores.shape[1]))
    return scores


def _text(tensors) -> str:
    return ", ".join(str(tuple(each.shape)) for each in tensors)


def normalise(maps: np.ndarray, common: bool = False) -> np.ndarray:
    """Scale maps (N, h, w), not negative, to a maximum of 1; a map of zeros stays zeros.

    Each is divided by its own maximum, which shows a faint map as brightly as a strong one; or, if
    `common`, all by the highest of all, so that strength can be compared.

    Raises ValueError for another shape, NaN, infinity or negative values.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} must be (N, h, w); one map is maps[None].")
    check_values(maps)
    highest = maps.max(axis=None if common else (1, 2), keepdims=True, initial=0)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def check_values(maps) -> None:
    """Raise ValueError for maps (N, h, w) with NaN, infinity or a negative value."""
    for i in np.flatnonzero(~((maps >= 0) & np.isfinite(maps)).all(axis=(1, 2))):
        raise ValueError(
            f"Map {i} holds NaN, infinity or a negative value. Check the network's weights; "
            "np.maximum(maps, 0) keeps the positive evidence."
        )


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (no shift): (N, h, w) to float32 (N, *size).

    Raises ValueError for a size that is not (height, width).
    """
    if np.shape(size) != (2,):
        raise ValueError(f"size = {size!r}: (height, width) in pixels is needed.")
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

    Raises:
        ValueError: a picture or a map of another form.
    """
    image, heat = np.asarray(image), np.asarray(heat)
    if image.dtype != np.uint8 or image.shape != (*heat.shape, 3) or not np.isfinite(heat).all():
        raise ValueError(
            f"image {image.dtype} {image.shape} and heat {heat.shape} must be uint8 (H, W, 3) and "
            "(H, W) without NaN; upsample brings maps to the size of the picture."
        )
    levels = np.round(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(np.ascontiguousarray(image), 1 - strength, colors, strength, 0)
