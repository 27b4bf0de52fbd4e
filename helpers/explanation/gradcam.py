"""Where a network holds evidence for a class, for Assignment4B and 4C: Grad-CAM and its relatives.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), Grad-CAM++ (Chattopadhay et al. 2018, arXiv
1710.11063), HiResCAM (Draelos and Carin 2020, arXiv 2011.08891), LayerCAM (Jiang et al. 2021,
doi 10.1109/TIP.2021.3089943), XGrad-CAM (Fu et al. 2020, arXiv 2008.02312), Eigen-CAM (Muhammad and
Yeasin 2020, arXiv 2008.00299). Score-CAM and Ablation-CAM are left out: they cost a prediction per
channel, 256 at this course's `features`, where these take one.
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


def _xgradcam(A, G):
    total = tf.reduce_sum(A, axis=(1, 2))
    weights = tf.math.divide_no_nan(tf.reduce_sum(A * G, axis=(1, 2)), total)
    return tf.einsum("nhwk,nk->nhw", A, weights)


def _eigencam(A, G):
    n, h, w, K = tf.unstack(tf.shape(A))
    places = tf.reshape(A, (n, h * w, K))
    lengths, directions, _ = tf.linalg.svd(places)  # A v = s u
    heat = tf.reshape(lengths[:, :1] * directions[..., 0], (n, h, w))
    return heat * tf.sign(tf.reduce_sum(heat, axis=(1, 2), keepdims=True))


METHODS = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "hirescam": lambda A, G: tf.reduce_sum(A * G, axis=-1),
    "layercam": lambda A, G: tf.reduce_sum(A * tf.nn.relu(G), axis=-1),
    "xgradcam": _xgradcam,
    "eigencam": _eigencam,
}

# TensorFlow's operations on maps of one size that give maps of another.
_RESIZING = {
    "AvgPool", "BatchToSpaceND", "ConcatV2", "Conv2D", "Conv2DBackpropInput", "DepthToSpace",
    "DepthwiseConv2dNative", "GatherV2", "MaxPool", "MirrorPad", "Pad", "PadV2", "ResizeBicubic",
    "ResizeBilinear", "ResizeNearestNeighbor", "ScaleAndTranslate", "Slice", "SpaceToBatchND",
    "SpaceToDepth", "StridedSlice",
}  # fmt: skip
# What a head may do with places in a row: order them anew, leave some out, or pool them.
_POOLING_IN_A_ROW = {
    "Cast", "ExpandDims", "Identity", "Max", "Mean", "Min", "Reshape", "Squeeze", "StridedSlice",
    "Sum", "Transpose",
}  # fmt: skip
_OPAQUE = ("PartitionedCall", "While", "If", "Case", "PyFunc")


class GradCAM:
    """Maps of where a layer holds evidence for a class; built once per model, then called.

    With feature maps A (h, w, K), the logit y and its gradient G = dy/dA, the map is the ReLU of

    - gradcam: sum_k mean(G_k) A_k, the mean over all places;
    - gradcam++: sum_k w_k A_k, w_k = sum over places of relu(G_k) / (2 + sum(A_k) G_k). The paper's
      factor exp(y), one number per picture, is left out: it would bury any comparison of strength.
      Made for a layer after a ReLU (A >= 0);
    - hirescam: sum_k G_k A_k;
    - layercam: sum_k relu(G_k) A_k;
    - xgradcam: sum_k w_k A_k, w_k = sum over places of A_k G_k / sum(A_k), the gradient's mean
      weighted by the activation. Made for A >= 0;
    - eigencam: sum_k v_k A_k, v the first right singular vector of A as a matrix (places, K), not
      centred. It shows what is strongest, the same for every class. The sign of v is arbitrary;
      taken is the one whose map has a positive sum, which for A >= 0 is positive all over.

    The logit is explained, not the probability, whose gradient also depends on the other classes
    and vanishes where the network is sure. So a softmax or sigmoid at the model's very end is left
    out, be it a layer or a layer's activation; any other output is explained as it is. A single
    unit, scores (N, 1), stands for two classes: 1 with its logit, 0 with the negative of it, and
    predicted is 1 where the logit is positive, the probability above 0.5. The model stays as it is;
    when its weights change, so do the maps.

    By default explained is the last tensor before the scores that has height and width other than
    1x1, be it a layer's output or that of an operation such as `x + y`. Pooling at the end belongs
    to the head, global or not: as in the paper, VGG16 is explained at block5_conv3. A model that
    goes on with a sequence, as transformers do, or joins several such tensors, needs a `layer`.

    Args:
        model: functional, sequential or subclassed, from pictures (N, H, W, channels), H and W
            fixed or open, to scores (N, classes); its layers may be models; any dtype policy. One
            without an input shape takes that of the first pictures.
        layer: name of the layer or operation whose output (N, h, w, K) is explained, as a path like
            "backbone/conv" where the name is not unique; of several uses, the last. An operation is
            named as in a functional model's `operations` ("add_3"), elsewhere as TensorFlow names
            it, after the layer around it ("block/Relu"). `self.layer` says what was taken.
        method: one of METHODS.

    Raises:
        ValueError: no such method; no such layer, or it has no height and width or no influence on
            the scores; none named where it cannot be known; a model of another form, or with
            channels first.
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
            against: explain "that class rather than this one", the difference of their two logits
                (of a single unit: twice its logit); integer (N,) or one for all.
            batch_size: pictures per step; memory grows with it, not with N.

        Returns:
            float32 (N, h, w), not negative, not rescaled; in units of the logit per feature place
            (gradcam++: of no unit; eigencam: in those of the features). Zeros where nothing speaks
            for the class; (0, h, w) for no pictures.

        Raises:
            ValueError: pictures, class indices or a batch size of another form; indices out of
                range; NaN or infinity in the pictures, in the weights or on the way.
        """
        images = np.asarray(images)
        if images.dtype.kind not in "biuf":
            raise ValueError(f"images are {images.dtype}; real numbers are needed.")
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size = {batch_size!r}: a whole number from 1 on is needed.")
        shape = self._picture_shape or (None, None, None)
        if images.ndim != 4 or any(a not in (None, b) for a, b in zip(shape, images.shape[1:])):
            raise ValueError(
                f"images have the shape {images.shape}, the model wants {(None, *shape)}, None for "
                "any number. One picture is images[None]; grey pictures need three channels."
            )
        if images.dtype.kind == "f" and not (finite := np.isfinite(images)).all():
            first = np.argmin(finite.all(axis=(1, 2, 3)))
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
            pixels = images[step].astype(np.float32)
            heat, finite = self._compiled(pixels, classes[step], against[step])
            if not np.all(finite):
                self._explain_nan(start + np.argmin(finite))
            maps.append(heat.numpy())
        return np.concatenate(maps)

    def _trace(self, picture_shape):
        # One signature: one trace, whatever the batch size.
        indices = tf.TensorSpec((None,), tf.int32)
        compiled = tf.function(
            self._maps, autograph=False,
            input_signature=[tf.TensorSpec((None, *picture_shape), tf.float32), indices, indices],
        )  # fmt: skip
        compiled.get_concrete_function()  # finds what is wrong with model and layer
        self._compiled, self._picture_shape = compiled, tuple(picture_shape)

    def _maps(self, images, classes, against):
        """Runs once, to be traced: layer and logits are found in the graph it makes."""
        trace = _Trace(self._model, images)
        scores = tf.nest.flatten(trace.scores)
        if len(scores) != 1 or scores[0].shape.rank != 2:
            raise ValueError(f"The model must give scores (N, classes), not {_text(scores)}.")
        self.layer, features = (
            trace.last_map(scores[0]) if self.layer is None else trace.find(self.layer)
        )
        logits = tf.cast(_before_activation(scores[0]), tf.float32)
        if logits.shape[1] == 1:
            logits = tf.concat([-logits, logits], axis=1)
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
        height, width = trace.axes.get(features.name, (1, 2))
        order = (0, height, width, 6 - height - width)  # to (N, h, w, K)
        A, G = (tf.transpose(tf.cast(x, tf.float32), order) for x in (features, gradient))
        maps = METHODS[self.method](A, G)
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
        for weight in self._model.weights:
            if not np.isfinite(np.asarray(weight, np.float64)).all():
                raise ValueError(f"NaN or infinity in the weights, first in '{weight.path}'.")
        raise ValueError(
            f"images[{picture}] leads to NaN or infinity, though it and the weights hold none: a "
            "number overflows. Are the pixels in the model's range? 16 bits end at 65504."
        )


class _Trace:
    """A model's graph for pictures (N, H, W, K): its scores, and where it has height and width.

    Layers and operations are known by the tensors they put out: their `call` is replaced for the
    time of the run. This finds a tensor inside any kind of model, where
    `keras.Model(model.input, layer.output)` needs a flat functional one.
    """

    def __init__(self, model, images):
        self._images = images
        self._outputs = {}  # path: the output of the layer's last use, if it has four axes
        self._inputs = {}  # name of a tensor put out by one of Keras' spatial layers: its input
        self._pooled = {}  # the same of pooling layers alone
        self._scopes = {}  # TensorFlow's name scope: path of the layer
        self.scores = self._run(model)
        self._follow_pictures()

    def _run(self, model):
        operations = {}

        def collect(parent, prefix=""):
            # In a functional model `x + y` is an operation too, named "add".
            children = getattr(parent, "operations", [])
            children = children + parent._flatten_layers(include_self=False, recursive=False)
            for child in children:
                if child not in operations:
                    operations[child] = (prefix + child.name, vars(child).get("call"))
                    if isinstance(child, keras.Layer):
                        collect(child, f"{prefix}{child.name}/")

        operations[model] = ("", vars(model).get("call"))
        collect(model)
        try:
            for operation, (path, _) in operations.items():
                vars(operation)["call"] = self._recorded(operation, path)
            return model(self._images, training=False)
        finally:
            for operation, (_, own) in operations.items():
                vars(operation).pop("call", None)
                vars(operation).update({"call": own} if own else {})

    def _recorded(self, operation, path):
        call = getattr(operation.call, "python_function", operation.call)  # of a tf.function
        kind = type(operation)
        spatial = kind.__module__.startswith("keras.") and hasattr(operation, "data_format")
        if spatial and operation.data_format == "channels_first":
            raise ValueError(
                f"'{path}' works with channels first, (N, channels, H, W); GradCAM needs channels "
                "last: build the model with data_format='channels_last'."
            )

        def wrapper(*args, **kwargs):
            if isinstance(operation, keras.Layer):
                self._scopes.setdefault(tf.get_current_name_scope(), path)
            output = call(*args, **kwargs)
            if getattr(output, "graph", None) is self._images.graph:  # no inner function's
                source = (*args, *kwargs.values())[0]
                if spatial and output is not source:
                    self._inputs[output.name] = source
                    if "Pooling" in kind.__name__:
                        self._pooled[output.name] = source
                if output.shape.rank == 4:
                    self._outputs.pop(path, None)  # the last use comes last
                    self._outputs[path] = output
            return output

        return wrapper

    def _follow_pictures(self):
        """Find all maps: what still has the pictures' rows and columns, and along which axes.

        Four axes alone do not make a map: attention has (N, heads, queries, keys).
        """
        images = self._images
        self.axes = {images.name: (1, 2)}  # of height and width
        # The heights and widths of the maps that a tensor was computed from.
        self._sizes = {images.name: {tuple(images.shape[1:3])}}
        for op in images.graph.get_operations():  # in order of their making: inputs come first
            sources = [tensor for tensor in op.inputs if tensor.name in self._sizes]
            if not sources or op.type in ("Shape", "ShapeN", "Size", "Rank"):
                continue
            sizes = set().union(*(self._sizes[tensor.name] for tensor in sources))
            for output in op.outputs:
                self._sizes[output.name] = sizes
                if output.shape.rank == 4 and (axes := self._axes_after(op, output, sizes)):
                    self.axes[output.name] = axes
                    self._sizes[output.name] = sizes | {tuple(output.shape[i] for i in axes)}

    def _axes_after(self, op, output, sizes):
        layer_input = self._inputs.get(output.name)
        if op.type == "Reshape" and layer_input is None:  # say, of a sequence to its former size
            return (1, 2) if tuple(output.shape[1:3]) in sizes else None
        for source in op.inputs if layer_input is None else [layer_input]:
            if not (axes := self.axes.get(source.name)):
                continue
            if layer_input is not None or op.type in _RESIZING:
                channels_first = op.node_def.attr["data_format"].s == b"NCHW"
                return axes if sorted(axes) == [1, 2] and not channels_first else None
            if op.type == "Transpose":
                order = tf.get_static_value(op.inputs[1])
                return None if order is None else tuple(list(order).index(i) for i in axes)
            if all(output.shape[i] == source.shape[i] for i in axes):
                return axes
        return None

    def _is_map(self, tensor):
        axes = self.axes.get(tensor.name)
        return axes and tensor.dtype.is_floating and any(tensor.shape[i] != 1 for i in axes)

    def _sources(self, tensor):
        """What a tensor was computed from, as far as it depends on the pictures."""
        if tensor.name in self._pooled:
            return [self._pooled[tensor.name]]
        return [source for source in tensor.op.inputs if source.name in self._sizes]

    def _upstream(self, tensors, stop=lambda tensor: False):
        """{name: tensor} of these and all before them, but nothing before those that stop."""
        found, left = {}, list(tensors)
        while left:
            tensor = left.pop()
            if tensor.name not in found:
                found[tensor.name] = tensor
                left += [] if stop(tensor) else self._sources(tensor)
        return found

    def last_map(self, scores):
        """(path, tensor) of the last map before the scores, and before the pooling at the end."""
        head = self._upstream([scores], self._is_map)
        last = [tensor for tensor in head.values() if self._is_map(tensor)]
        earlier = self._upstream(source for tensor in last for source in self._sources(tensor))
        last = [tensor for tensor in last if tensor.name not in earlier]
        if len(last) > 1:
            paths = ", ".join(sorted(self.path(tensor) for tensor in last))
            raise ValueError(f"The scores come from several last maps: {paths}. Name one as layer.")
        tensor = last[0] if last else self._images
        while tensor.name in self._pooled or tensor.op.type in (
            "AvgPool", "Cast", "Identity", "MaxPool"
        ):  # fmt: skip
            tensor = self._sources(tensor)[0]
        if tensor is self._images:
            raise ValueError("The model has no layer with height and width: no map can be drawn.")
        path = self.path(tensor)
        if any(map(self._hides_places, head.values())):
            raise ValueError(
                f"After '{path}', {_text([tensor])}, the model works on a sequence, or in a "
                f"function that cannot be looked into. To explain that map, say layer='{path}'."
            )
        return path, tensor

    def _hides_places(self, tensor):
        """Whether a head's tensor may have been computed from places that are no map."""
        if self._is_map(tensor) or tensor.name in self._pooled:
            return False
        if tensor.op.type.endswith(_OPAQUE):
            return True
        sources = [source for source in self._sources(tensor) if not self._is_map(source)]
        return tensor.op.type not in _POOLING_IN_A_ROW and any(
            source.shape.rank is None or sum(size != 1 for size in source.shape[1:]) > 1
            for source in sources
        )

    def path(self, tensor):
        """The innermost layer that put this out; else TensorFlow's name of it in its layer."""
        for path, output in self._outputs.items():
            if output is tensor:
                return path
        names = tensor.op.name.split("/")
        for end in range(len(names) - 1, -1, -1):
            if (layer := self._scopes.get("/".join(names[:end]))) is not None:
                return "/".join(filter(None, (layer, *names[end:])))
        return tensor.op.name

    def find(self, name):
        """(path, tensor) of the layer or operation of this name or path."""
        named = self._outputs
        if not (paths := _matches(named, name)):
            firsts = (op.outputs[0] for op in self._images.graph.get_operations() if op.outputs)
            named = {self.path(tensor): tensor for tensor in firsts if self._is_map(tensor)}
            paths = _matches(named, name)
        if len(paths) != 1:
            problem = "the name of several layers" if paths else "no layer with height and width"
            those = list(paths or self._outputs)
            count = f"the last ten of {len(those)}" if len(those) > 10 else "these"
            raise ValueError(
                f"'{name}' is {problem}; {count} are: {', '.join(those[-10:]) or 'none'}."
            )
        return paths[0], named[paths[0]]


def _matches(paths, name):
    return [name] if name in paths else [p for p in paths if p.rpartition("/")[2] == name]


def _before_activation(scores):
    """What a final softmax or sigmoid was computed from, else the scores themselves."""
    tensor = scores
    while tensor.op.type in ("Identity", "Cast", "Reshape", "Squeeze"):
        tensor = tensor.op.inputs[0]
    if tensor.op.type in ("Softmax", "LogSoftmax", "Sigmoid"):
        return tf.reshape(tensor.op.inputs[0], (-1, scores.shape[1]))
    return scores


def _text(tensors) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


def normalise(maps: np.ndarray, common: bool = False) -> np.ndarray:
    """Scale maps (N, h, w), not negative, to a maximum of 1; a map of zeros stays zeros.

    Each is divided by its own maximum, which shows a faint map as brightly as a strong one; or, if
    `common`, all by the highest of all, so that strength can be compared. Returns float32, or
    float64 if float32 cannot hold the maps' numbers.

    Raises ValueError for another shape, NaN, infinity or negative values.
    """
    maps = _floats(maps)
    if maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} must be (N, h, w); one map is maps[None].")
    check_values(maps)
    highest = maps.max(axis=None if common else (1, 2), keepdims=True, initial=0)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def _floats(maps):
    """In float32 at least: what 8 bits or float16 cannot hold is needed on the way."""
    maps = np.asarray(maps)
    return maps.astype(np.result_type(maps, np.float32), copy=False)


def check_values(maps) -> None:
    """Raise ValueError for maps (N, h, w) with NaN, infinity or a negative value."""
    good = ((maps >= 0) & np.isfinite(maps)).all(axis=(1, 2))
    if not good.all():
        raise ValueError(
            f"Map {np.argmin(good)} holds NaN, infinity or a negative value. Check the network's "
            "weights; np.maximum(maps, 0) keeps the positive evidence."
        )


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (no shift): (N, h, w) to float32 (N, *size).

    Raises ValueError for a size that is not (height, width).
    """
    if np.shape(size) != (2,):
        raise ValueError(f"size = {size!r}: (height, width) in pixels is needed.")
    return tf.image.resize(_floats(maps)[..., None], size).numpy()[..., 0]


def overlay(
    image: np.ndarray, heat: np.ndarray, strength: float = 0.5, colormap=cv2.COLORMAP_INFERNO
):
    """Blend a heat map into a picture.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: real numbers (H, W), 0 to 1.
        strength: share of the heat map's colour in the result.
        colormap: one of OpenCV's.

    Returns:
        uint8 (H, W, 3), RGB. OpenCV's colour maps are BGR; shown as RGB, hot would turn blue.

    Raises:
        ValueError: a picture or a map of another form.
    """
    image, heat = np.asarray(image), _floats(heat)
    if image.dtype != np.uint8 or image.shape != (*heat.shape, 3) or not np.isfinite(heat).all():
        raise ValueError(
            f"image {image.dtype} {image.shape} and heat {heat.shape} must be uint8 (H, W, 3) and "
            "(H, W) without NaN; upsample brings maps to the size of the picture."
        )
    levels = np.round(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(np.ascontiguousarray(image), 1 - strength, colors, strength, 0)
