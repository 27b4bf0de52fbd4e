"""Grad-CAM and five relatives. This file imports no other: copy it into your own Keras project."""

import re
from functools import partial

import cv2
import keras
import numpy as np
import tensorflow as tf


# Feature maps A and the logit's gradient G at them, both (n, h, w, K), to maps (n, h, w).
def _gradcam_plus_plus(A, G):
    # The paper's derivatives of exp(y) are exp(y) times G, G^2, G^3. So its alpha is
    # G^2 / (2 G^2 + sum(A) G^3), here with G^2 cancelled.
    total = tf.reduce_sum(A, axis=(1, 2), keepdims=True)  # (n, 1, 1, K)
    alpha = tf.math.divide_no_nan(1.0, 2 + total * G)  # (n, h, w, K)
    return tf.einsum("nhwk,nk->nhw", A, tf.reduce_sum(alpha * tf.nn.relu(G), axis=(1, 2)))


def _xgradcam(A, G):
    weights = tf.math.divide_no_nan(tf.reduce_sum(A * G, (1, 2)), tf.reduce_sum(A, (1, 2)))
    return tf.einsum("nhwk,nk->nhw", A, weights)


def _eigencam(A, G):
    n, h, w, K = tf.unstack(tf.shape(A))
    places = tf.reshape(A, (n, h * w, K))
    lengths, left, _ = tf.linalg.svd(places - tf.reduce_mean(places, axis=1, keepdims=True))
    heat = lengths[:, :1] * left[..., 0]  # first principal component of the places, (n, h * w)
    sign = tf.sign(tf.reduce_sum(heat * tf.reduce_sum(places, axis=2), axis=1, keepdims=True))
    return tf.reshape(sign * heat, (n, h, w))


METHODS = {
    "gradcam": lambda A, G: tf.einsum("nhwk,nk->nhw", A, tf.reduce_mean(G, axis=(1, 2))),
    "gradcam++": _gradcam_plus_plus,
    "hirescam": lambda A, G: tf.reduce_sum(A * G, axis=-1),
    "layercam": lambda A, G: tf.reduce_sum(A * tf.nn.relu(G), axis=-1),
    "xgradcam": _xgradcam,
    "eigencam": _eigencam,
}


class GradCAM:
    """Maps of where a layer holds evidence for a class; built once per model, then called.

    With feature maps A (h, w, K), the logit y and its gradient G = dy/dA, the map is the ReLU of

    - gradcam: sum_k mean(G_k) A_k, the mean over all places (Selvaraju et al., arXiv 1610.02391);
    - gradcam++: sum_k w_k A_k, w_k = sum over places of relu(G_k) / (2 + sum(A_k) G_k), without the
      factor exp(y), which would bury any comparison of strength (Chattopadhay, arXiv 1710.11063);
    - hirescam: sum_k G_k A_k (Draelos and Carin, arXiv 2011.08891);
    - layercam: sum_k relu(G_k) A_k (Jiang et al., doi 10.1109/TIP.2021.3089943);
    - xgradcam: sum_k w_k A_k, w_k = sum of A_k G_k / sum(A_k) (Fu et al., arXiv 2008.02312);
    - eigencam: sum_k v_k (A_k - mean(A_k)), v the first principal direction of the places, for any
      class the same (Muhammad and Yeasin, arXiv 2008.00299; centered, unlike theirs, as in
      pytorch-grad-cam). Of v and -v the one is taken whose map rises with sum_k A_k.

    gradcam++ and xgradcam presume A >= 0, as after a ReLU. The logit is explained, not the
    probability, which also depends on the other classes: a softmax or sigmoid at the very end is
    left out. A single unit, scores (N, 1), is two classes: 1 with its logit, 0 with the negative.

    Args:
        model: Functional or Sequential, from pictures (N, H, W, channels) to scores (N, classes).
        layer: name of the layer to explain, its output (N, h, w, K); inside an inner model a path,
            "resnet50/conv4_block6_out", or its end. By default the last with more than one place
            that every path to the scores leads through, except pooling, padding and casts, see
            `self.layer`. Where a sequence or a subclassed layer follows, none can be told.
        method: one of METHODS.

    Raises ValueError for an unknown method or layer, or a model of another form.
    """

    def __init__(self, model: keras.Model, layer: str | None = None, method: str = "gradcam"):
        if method not in METHODS:
            raise ValueError(f"No method '{method}'; there are: {', '.join(METHODS)}.")
        if keras.backend.backend() != "tensorflow":
            raise ValueError("GradCAM needs Keras on TensorFlow: KERAS_BACKEND=tensorflow.")
        if not (graph := _graph(model)):
            raise ValueError(
                f"{type(model).__name__} has no graph. Sequential: model.build((None, H, W, K)). A "
                "subclassed model: x = keras.Input((H, W, K)), then keras.Model(x, model.call(x))."
            )
        shapes = [x.shape for x in (*graph.inputs, *graph.outputs)]
        if [len(shape) for shape in shapes] != [4, 2]:
            raise ValueError(
                f"{shapes} are not pictures (N, H, W, K) and scores (N, classes). One of several "
                "outputs is chosen by GradCAM(keras.Model(model.inputs, model.outputs[0]))."
            )
        self.layer, self.method, self._graph = layer, method, graph
        pictures = tf.TensorSpec((None, *shapes[0][1:]), tf.float32)
        indices = tf.TensorSpec((None,), tf.int32)
        traced = tf.function(self._maps, [pictures, indices, indices], autograph=False)
        self._shape, self._compiled = pictures.shape, traced.get_concrete_function()  # for any N

    def __call__(self, images, class_indices=None, against=None, batch_size: int = 256):
        """Explain pictures (N, H, W, channels), numbers as the model takes them: float32 (N, h, w).

        Explained is class_indices, integer (N,) or one for all, by default the class predicted;
        against is of the same form and asks for "that class rather than this one", the difference
        of their logits. Memory grows with batch_size, the pictures per step, not with N.

        The maps are not negative and not rescaled, in units of the logit per feature place
        (gradcam++: of no unit; eigencam: of the features); zeros where nothing speaks for a class.
        Raises ValueError for pictures or classes of another form, and for NaN or infinity.
        """
        images = np.asarray(images)
        if not self._shape.is_compatible_with(images.shape):
            raise ValueError(
                f"images {images.shape} must be {self._shape}. One picture is images[None]; grey "
                "ones are images[..., None], of three channels np.repeat(images[..., None], 3, -1)."
            )
        classes = self._indices("class_indices", class_indices, len(images))
        against = self._indices("against", against, len(images))
        steps = [slice(i, i + batch_size) for i in range(0, len(images), batch_size)]
        maps = [self._compiled(np.float32(images[i]), classes[i], against[i]) for i in steps]
        maps = np.maximum(np.concatenate(maps), 0)
        check_values(maps)
        return maps

    def _maps(self, images, classes, against):
        """Maps (n, h, w), before their ReLU, of pictures and integers (n,), -1 for none given."""
        steps = []
        (scores,) = _run(self._graph, images, steps)  # (n, classes)
        self.layer, A = _find(steps, self.layer)  # (n, h, w, K)
        end = scores.op
        while end.type in ("Identity", "Cast", "Reshape", "Squeeze"):
            end = end.inputs[0].op
        logits = end.inputs[0] if end.type in ("Softmax", "LogSoftmax", "Sigmoid") else scores
        logits = tf.cast(tf.reshape(logits, (-1, scores.shape[1])), tf.float32)
        if logits.shape[1] == 1:
            logits = tf.concat([-logits, logits], axis=1)
        self._classes = logits.shape[1]

        classes = tf.where(classes < 0, tf.argmax(logits, axis=1, output_type=tf.int32), classes)
        score = tf.gather(logits, classes, batch_dims=1)  # (n,)
        score -= tf.where(against < 0, 0.0, tf.gather(logits, tf.maximum(against, 0), batch_dims=1))
        # Pictures do not mix: the gradient of the sum is every picture's own, (n, h, w, K).
        (G,) = tf.gradients(tf.reduce_sum(score), A)
        return METHODS[self.method](tf.cast(A, tf.float32), tf.cast(G, tf.float32))

    def _indices(self, name, indices, count):
        if indices is None:
            return np.full(count, -1, np.int32)
        given, last = np.asarray(indices), self._classes - 1
        good = given.shape in ((), (count,)) and given.dtype.kind in "iu"
        if not good or given.min() < 0 or given.max() > last:
            raise ValueError(f"{name}: 0 to {last}, one for all or {count}, not {given!s:.99}.")
        return np.broadcast_to(given, count).astype(np.int32)


def _graph(model):
    """Keras' own graph of a model: a Functional is one, a built Sequential has one."""
    graph = getattr(model, "_functional", model)
    return graph if isinstance(graph, keras.Function) else None


def _run(graph, inputs, steps, prefix=""):
    """Run a graph and those inside it; note in steps (path, operation, sources, output) of each."""

    def run(operation, *args, **kwargs):
        path, sources = prefix + operation.name, tf.nest.flatten((args, kwargs))
        if inner := _graph(operation):
            sources = outputs = _run(inner, args[0], steps, f"{path}/")
        else:
            if getattr(operation, "data_format", "") == "channels_first":
                raise ValueError(f"{path} is channels_first; GradCAM reads (N, H, W, K).")
            if getattr(operation, "_call_has_training_arg", False):
                kwargs["training"] = False
            outputs = tf.nest.flatten(operation(*args, **kwargs))
        steps.extend((path, operation, sources, output) for output in outputs)
        return outputs

    given = tf.nest.flatten(inputs)
    inputs = [tf.cast(x, wanted.dtype) for x, wanted in zip(given, graph.inputs)]
    steps.extend((f"{prefix}input", None, [x], cast) for x, cast in zip(given, inputs))
    return tf.nest.flatten(graph._run_through_graph(inputs, lambda layer: partial(run, layer)))


def _find(steps, name):
    """(path, tensor) of the layer of this name, in its last use; without a name of `_last`."""
    maps = {path: y for path, operation, _, y in steps if operation and y.shape.rank == 4}
    paths = [name] if name in maps else [path for path in maps if path.endswith(f"/{name}")]
    found = [(path, maps[path]) for path in paths] if name else _last(steps)
    if len(found) != 1:
        choice = ", ".join(list(dict(found) or maps)[-10:])
        raise ValueError(f"Choose layer, now {name!r}, from these with height and width: {choice}.")
    return found[0]


def _last(steps):
    """[(path, tensor)] of the last feature maps that every path to the scores leads through."""
    made = {id(output) for *_, output in steps}
    needed = {id(steps[-1][-1])}  # by the steps from here on
    for path, operation, sources, output in reversed(steps):
        sources = {id(source) for source in sources} & made
        if id(output) not in needed or id(output) in sources:  # it is of no use, or does nothing
            continue
        if needed == {id(output)}:  # no path leads around it
            places = output.shape[1:-1].as_list()  # [h, w]; of a sequence [length]; of scores []
            skip = re.search("Pool|Pad|Crop|Cast|Rescal|Random|^Normal", type(operation).__name__)
            if operation and len(places) == 2 and places != [1, 1] and not skip:
                return [(path, output)]
            # A transformer's patches come long before what it sees in them.
            if (len(places) == 1 and places != [1]) or isinstance(operation, keras.Model):
                break
        needed = needed - {id(output)} | sources
    return []


def normalize(maps: np.ndarray, common: bool = False) -> np.ndarray:
    """Scale maps (N, h, w) to a maximum of 1, each its own or all a common one: float32.

    Maps of zeros stay zeros. Raises ValueError for another shape, NaN, infinity, negative values.
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} must be (N, h, w); one map is maps[None].")
    check_values(maps)
    highest = maps.max(axis=None if common else (1, 2), keepdims=True, initial=0)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def check_values(maps) -> None:
    """Raise ValueError for maps (N, h, w) with NaN, infinity or a negative value."""
    good = ((maps >= 0) & np.isfinite(maps)).all(axis=(1, 2))
    if not good.all():
        raise ValueError(f"Map {good.argmin()} holds NaN, infinity or below 0: see the weights.")


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centers aligned (no shift): (N, h, w) to float32 (N, *size)."""
    return tf.image.resize(np.asarray(maps, np.float32)[..., None], size).numpy()[..., 0]


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Blend a heat map (H, W), 0 to 1, into a picture, uint8 RGB (H, W, 3), else ValueError."""
    image, heat = np.asarray(image), np.asarray(heat, np.float32)
    if image.dtype != np.uint8 or image.shape != (*heat.shape, 3):
        raise ValueError(
            f"image {image.dtype} {image.shape} must be uint8 (H, W, 3), heat {heat.shape} (H, W): "
            "upsample brings maps to the size of the picture."
        )
    levels = np.round(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    # OpenCV's color maps are BGR; shown as RGB, hot would turn blue.
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(np.ascontiguousarray(image), 0.5, colors, 0.5, 0)
