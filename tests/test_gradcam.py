import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from helpers.explanation import gradcam
from helpers.training.resnet import resnet_v2

LABELS = np.array([0, 3, 9, 1, 4, 4])


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return resnet_v2(11)


@pytest.fixture(scope="module")
def explain(model):
    return gradcam.GradCAM(model)


def at(model, pictures, layer="features"):
    """Feature maps, logits, and the gradient of the logits of LABELS, by eager TensorFlow."""
    outputs = [model.get_layer(layer).output, model.get_layer("logits").output]
    part = keras.Model(model.input, outputs)
    with tf.GradientTape() as tape:
        A, logits = part(pictures.astype(np.float32), training=False)
        score = tf.reduce_sum(tf.gather(logits, LABELS[: len(pictures)], batch_dims=1))
    return A.numpy(), logits.numpy(), tape.gradient(score, A).numpy()


def by_tape(model, layer, images, labels):
    """Grad-CAM by eager TensorFlow, of a flat functional model; a dense end loses its softmax."""
    (features,) = (node.output for node in model.operations if node.name == layer)
    end = model.layers[-1]
    softmax = getattr(end, "activation", None) is keras.activations.softmax
    A = tf.constant(keras.Model(model.input, features)(images, training=False))
    head = keras.Model([model.input, features], end.input if softmax else end.output)
    with tf.GradientTape() as tape:
        tape.watch(A)
        scores = head([tf.constant(images), A], training=False)
        logits = scores @ end.kernel + end.bias if softmax else scores
        score = tf.reduce_sum(tf.gather(logits, labels, batch_dims=1))
    gradient = tape.gradient(score, A).numpy()
    return relu(np.einsum("nhwk,nk->nhw", A, gradient.mean(axis=(1, 2))))


def close(maps, expected):
    """Within 1e-5 of the highest value, and there is one."""
    peak = expected.max()
    return maps.shape == expected.shape and peak > 0 and np.abs(maps - expected).max() < 1e-5 * peak


def relu(x):
    return np.maximum(x, 0)


def test_gradcam_is_cam(model, explain, pictures):
    """dy_c/dA_k = W_kc / 64 at every place, so 64 times Grad-CAM is CAM; it follows the weights."""
    head, (A, _, _) = model.get_layer("logits"), at(model, pictures)
    W, b = head.get_weights()
    assert explain.layer == "features"
    for sign in (-1, 1):
        head.set_weights([sign * W, b])
        expected = np.einsum("nhwk,kn->nhw", A, sign * W[:, LABELS]) / 64
        maps = explain(pictures, LABELS)
        assert maps.dtype == np.float32 and close(maps, relu(expected))
    assert np.array_equal(explain(pictures, 3), explain(pictures, np.full(6, 3)))


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_definitions_where_the_gradient_varies(model, pictures, method):
    """At the last addition, before normalization and ReLU, no two methods are the same."""
    name = "stage3_block1_add"
    if method in ("gradcam++", "xgradcam"):  # made for A >= 0
        name = "stage3_block1_c_relu"
    A, logits, G = (array.astype(np.float64) for array in at(model, pictures, name))
    if method == "gradcam++":
        # The paper's equations 12, 13, 15, 17 and 19, without their common factor exp(y).
        Y = np.exp(logits[np.arange(6), LABELS])[:, None, None, None]
        first, second, third = Y * G, Y * G**2, Y * G**3
        divisor = 2 * second + A.sum(axis=(1, 2), keepdims=True) * third
        alpha = np.divide(second, divisor, out=np.zeros_like(A), where=divisor != 0)
        weights = (alpha * relu(first)).sum(axis=(1, 2), keepdims=True)
        expected = (weights * A).sum(axis=-1) / Y[..., 0]
    elif method == "xgradcam":  # the paper's equations 7 and 8
        total = A.sum(axis=(1, 2), keepdims=True)
        share = np.divide(A, total, out=np.zeros_like(A), where=total != 0)
        expected = ((share * G).sum(axis=(1, 2), keepdims=True) * A).sum(axis=-1)
    elif method == "eigencam":  # as pytorch-grad-cam's get_2d_projection, and a sign
        places = A.reshape(6, 64, -1) - A.mean(axis=(1, 2), keepdims=True)[:, 0]
        heat = np.stack([each @ np.linalg.svd(each)[2][0] for each in places])
        strength = A.sum(axis=-1).reshape(6, 64)
        rises = [np.corrcoef(*pair)[0, 1] > 0 for pair in zip(heat, strength)]
        expected = np.where(rises, heat.T, -heat.T).T.reshape(6, 8, 8)
    else:
        mean = G.mean(axis=(1, 2), keepdims=True)
        expected = ({"gradcam": mean, "hirescam": G, "layercam": relu(G)}[method] * A).sum(axis=-1)
    maps = gradcam.GradCAM(model, name, method)(pictures, LABELS)
    assert np.allclose(maps, relu(expected), rtol=0, atol=1e-5 * maps.max())
    if method == "eigencam":
        assert np.array_equal(maps, gradcam.GradCAM(model, name, method)(pictures, 7))


def test_contrast_is_the_difference_before_the_relu(model, explain, pictures):
    A, _, _ = at(model, pictures)
    W = model.get_layer("logits").get_weights()[0]
    others = (LABELS + 1) % 10
    expected = np.einsum("nhwk,kn->nhw", A, W[:, LABELS] - W[:, others]) / 64
    maps = explain(pictures, LABELS, others)
    assert close(maps, relu(expected))
    assert np.allclose(maps - explain(pictures, others, LABELS), expected, rtol=0, atol=1e-6)
    assert not explain(pictures, LABELS, against=LABELS).any()


def test_pictures_do_not_mix_and_batches_do_not_matter(model, explain, pictures):
    whole = explain(pictures, LABELS)
    alone = np.concatenate([explain(pictures[i : i + 1], LABELS[i : i + 1]) for i in range(6)])
    assert np.allclose(whole, alone, atol=1e-6)
    assert np.allclose(whole, explain(pictures, LABELS, batch_size=4), atol=1e-6)
    assert np.array_equal(whole, gradcam.GradCAM(model)(pictures, LABELS))


@pytest.mark.parametrize("end", [(), (layers.Activation("sigmoid"),), (ops.sigmoid,)])
def test_a_single_unit_stands_for_two_classes(end, small):
    images, _ = small
    unit = layers.Dense(1, name="unit", kernel_initializer=keras.initializers.HeNormal(4))
    model = chain([conv1(), conv2(), pool(), unit, *end])
    A, logits = keras.Model(model.input, [model.get_layer("conv2").output, unit.output])(images)
    unit.bias.assign([-np.median(logits)])
    positive = np.array(logits[:, 0] > np.median(logits), int)
    assert set(positive) == {0, 1}

    explain = gradcam.GradCAM(model)
    evidence = np.einsum("nhwk,k->nhw", A, unit.kernel.numpy()[:, 0]) / 36
    assert close(explain(images, 1), relu(evidence))
    assert close(explain(images, 0), relu(-evidence))
    assert np.array_equal(explain(images), explain(images, positive))
    assert close(explain(images, 1, against=0), relu(2 * evidence))


# Kinds of models: the same small network in many forms, its maps known from NumPy.

SIDE = 12


def conv1(**kw):
    options = {"activation": "relu", "kernel_initializer": keras.initializers.HeNormal(1), **kw}
    return layers.Conv2D(6, 3, padding="same", name="conv1", **options)


def conv2(**kw):
    options = {"activation": "relu", "kernel_initializer": keras.initializers.HeNormal(2), **kw}
    return layers.Conv2D(5, 3, 2, padding="same", name="conv2", **options)


def pool():
    return layers.GlobalAveragePooling2D(name="pool")


def dense(activation=None, **kw):
    start = keras.initializers.HeNormal(3)
    return layers.Dense(4, activation, name="dense", kernel_initializer=start, **kw)


def chain(steps, side=SIDE, name=None, dtype=None):
    x = inputs = keras.Input((side, side, 3), dtype=dtype)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name=name)


def functional(*end, **kw):
    return chain([conv1(), conv2(), pool(), *end], **kw)


def backbone(*end):
    return chain([conv1(), conv2(), *end], name="backbone")


def sequential():
    return keras.Sequential([conv1(), conv2(), pool(), dense(), layers.Softmax()])


def built(model):
    model.build((None, SIDE, SIDE, 3))
    return model


def called(model):
    model(np.zeros((3, SIDE, SIDE, 3), np.float32))
    return model


class Subclassed(keras.Model):
    def __init__(self, *steps, **kw):
        super().__init__(**kw)
        self.steps = steps

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


def shared_relu():
    shared = layers.ReLU(name="relu")
    steps = [conv1(activation=None), shared, conv2(activation=None), shared, pool(), dense()]
    return chain(steps)


KINDS = {
    "logits": lambda: functional(dense()),
    "softmax layer": lambda: functional(dense(), layers.Activation("softmax")),
    "softmax in the dense layer": lambda: functional(dense("softmax")),
    "log softmax": lambda: functional(dense("log_softmax")),
    "softmax as an operation": lambda: functional(dense(), ops.softmax),
    "sigmoid": lambda: functional(dense("sigmoid")),
    "any size": lambda: functional(dense("softmax"), side=None),
    "8-bit input": lambda: chain(
        [layers.Rescaling(1.0), conv1(), conv2(), pool(), dense("softmax")], dtype="uint8"
    ),
    "layer used twice": shared_relu,
    "1x1 head": lambda: functional(  # as MobileNet's
        dense(), layers.Reshape((1, 1, 4)), layers.Softmax(), layers.Flatten()
    ),
    "ends in a sum": lambda: chain([conv1(), conv2(), lambda x: x / 2 + x / 2, pool(), dense()]),
    "Sequential, built": lambda: built(sequential()),
    "Sequential, called": lambda: called(sequential()),
    "backbone in Functional": lambda: chain([backbone(), pool(), dense("softmax")]),
    "backbone in Sequential": lambda: built(
        keras.Sequential([backbone(), pool(), layers.Dropout(0.5), dense("softmax")])
    ),
    "backbone that pools": lambda: chain([backbone(pool()), dense("softmax")]),
    "dropout called to train": lambda: chain([
        conv1(), conv2(), pool(), lambda x: layers.Dropout(0.9)(x, training=True), dense()
    ]),
    "backbone that ends in a sum": lambda: chain([
        backbone(lambda x: x / 2 + x / 2), pool(), dense()
    ]),
    "Sequential in Sequential": lambda: built(keras.Sequential([
        keras.Sequential([keras.Sequential([conv1()]), conv2()]),
        keras.Sequential([pool(), dense()]),
    ])),
    "subclassed backbone": lambda: chain([
        Subclassed(conv1(), conv2(), name="backbone"), pool(), dense("softmax")
    ]),
    "subclassed, made Functional": lambda: chain([  # as the message says
        Subclassed(conv1(), conv2(), pool(), dense()).call
    ]),
}  # fmt: skip
LAST = {  # the layer explained where it is not conv2
    "layer used twice": "relu",
    "ends in a sum": r"add(_\d+)?",
    "backbone that ends in a sum": r"backbone/add(_\d+)?",
    "subclassed backbone": "backbone",
}


@pytest.fixture(scope="module")
def small():
    """Pictures for the small network and its maps."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 9, (5, SIDE, SIDE, 3)) * rng.integers(0, 3, (5, 1, 1, 3))
    images = images.astype(np.float32)
    last, features = dense(), conv2()(conv1()(images))
    predicted = last(pool()(features)).numpy().argmax(axis=1)
    W = last.get_weights()[0]
    maps = relu(np.einsum("nhwk,kn->nhw", features, W[:, predicted])) / 36
    assert len(set(predicted)) > 1 and maps.max() > 0
    return images, maps


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind, small):
    images, expected = small
    model = KINDS[kind]()
    explain = gradcam.GradCAM(model)
    assert np.allclose(explain(images), expected, rtol=1e-6, atol=1e-6)
    assert re.fullmatch(LAST.get(kind, "(.*/)?conv2"), explain.layer)
    assert np.array_equal(gradcam.GradCAM(model, explain.layer)(images), explain(images))
    assert explain(images[:1]).shape == (1, 6, 6)
    if kind == "any size":
        assert explain(np.zeros((2, 20, 32, 3))).shape == (2, 10, 16)


@pytest.mark.parametrize("name", ["conv1", "backbone/conv1"])
@pytest.mark.parametrize("kind", ["backbone in Functional", "backbone in Sequential"])
def test_a_layer_inside_a_backbone(kind, name, small):
    images, expected = small
    model = KINDS[kind]()
    explain = gradcam.GradCAM(model, name)
    assert explain.layer == "backbone/conv1"
    assert close(explain(images, 1), gradcam.GradCAM(functional(dense()), "conv1")(images, 1))
    assert np.allclose(gradcam.GradCAM(model, "backbone")(images), expected, rtol=1e-6, atol=1e-6)


def test_a_grey_picture_and_a_model_of_one_channel():
    x = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(x, dense()(pool()(conv2()(conv1()(x)))))
    explain, grey = gradcam.GradCAM(model), np.random.default_rng(0).random((2, SIDE, SIDE))
    images = np.float32(grey[..., None])
    predicted = model(images).numpy().argmax(axis=1)
    assert close(explain(images), by_tape(model, "conv2", images, predicted))
    with pytest.raises(ValueError, match=r"must be \(None, 12, 12, 1\).*grey.*images\[..., None\]"):
        explain(grey)


# Heads: where the last map is


def excited(x):
    """Squeeze and excitation, with maps of 1x1."""
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply(name="excited")([x, layers.Conv2D(5, 1, activation="sigmoid")(gate)])


def branches(x):
    """Two last maps: what both were made from is the last that everything passes."""
    deep = [layers.Conv2D(5, 3, activation="relu")(x), layers.Conv2D(3, 3)(x)]
    return layers.Concatenate()([layers.GlobalMaxPooling2D()(branch) for branch in deep])


def beside_the_pixels(x):
    """A bypass from conv2 on: what lies on it is no bottleneck."""
    return layers.Add(name="sum")([layers.Conv2D(5, 3, padding="same", name="side")(x), x])


HEADS = {
    "max-pooling, flat": ("conv2", layers.MaxPooling2D, lambda: layers.Dropout(0.5)),
    "max-pooling by an operation": ("conv2", lambda: lambda x: ops.max_pool(x, 2)),
    "pooled to 1x1, convolved": (
        "conv2", lambda: layers.GlobalAveragePooling2D(keepdims=True), lambda: layers.Conv2D(7, 1)
    ),
    "padded, convolved to 1x1": ("conv2", layers.ZeroPadding2D, lambda: layers.Conv2D(7, 8)),
    "cast, cut": ("conv2", lambda: lambda x: ops.cast(x, "float32"), lambda: layers.Cropping2D(1)),
    "noise that rests": ("conv2", lambda: layers.SpatialDropout2D(0.5), layers.RandomFlip),
    "two branches": ("conv2", lambda: branches),
    "a sum": ("sum", lambda: beside_the_pixels, pool),
    "normalized": ("norm", lambda: layers.BatchNormalization(name="norm"), pool),
    "squeeze and excitation": ("excited", lambda: excited, pool),
    "a sequence of one": ("conv2", pool, lambda: layers.Reshape((1, 5)), layers.LayerNormalization),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_the_last_map_before_the_head(head, small):
    images, labels = small[0], [0, 1, 2, 3, 0]
    layer, *steps = HEADS[head]
    keras.utils.set_random_seed(0)
    model = chain([conv1(), conv2(), *(step() for step in steps), layers.Flatten(), dense()])
    explain = gradcam.GradCAM(model)
    assert explain.layer == layer
    assert close(explain(images, labels), by_tape(model, layer, images, labels))


APPLICATIONS = [
    ("MobileNetV2", 64, "out_relu"), ("EfficientNetB0", 64, "top_activation"),
    ("ResNet50V2", 64, "post_relu"), ("DenseNet121", 64, "relu"), ("VGG16", 32, "block5_conv3"),
    ("ConvNeXtTiny", 64, r"add(_\d+)?"),  # the last block's sum, numbered anew every time
    # At 32 x 32 these end in 1 x 1, made from 2 x 2 by padding and a convolution.
    ("MobileNet", 32, "conv_pw_11_relu"), ("MobileNetV2", 32, "block_13_expand_relu"),
    ("EfficientNetB0", 32, "block6a_expand_activation"), ("ResNet50V2", 32, "conv4_block5_out"),
]  # fmt: skip


@pytest.mark.parametrize("name, side, layer", APPLICATIONS)
def test_keras_applications(name, side, layer):
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(side, side, 3), classes=4)
    explain = gradcam.GradCAM(model)
    assert re.fullmatch(layer, explain.layer)
    if name != "MobileNet":  # whose dense layer is a convolution
        images = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)
        maps = explain(images, [1, 2])
        assert maps.shape == (2, 2, 2)
        assert close(maps, by_tape(model, explain.layer, images, [1, 2]))


@pytest.mark.parametrize("policy, error", [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
@pytest.mark.parametrize("method", gradcam.METHODS)
def test_mixed_precision(policy, error, method, small):
    images, _ = small
    pooled = layers.GlobalAveragePooling2D(dtype=policy)
    mixed = [conv1(dtype=policy), conv2(dtype=policy), pooled, dense("softmax", dtype=policy)]
    maps = gradcam.GradCAM(chain(mixed), method=method)(images, 1)
    expected = gradcam.GradCAM(functional(dense("softmax")), method=method)(images, 1)
    assert maps.dtype == np.float32 and not np.array_equal(maps, expected)
    assert np.allclose(maps, expected, rtol=0, atol=error * expected.max())


def test_the_model_is_left_as_it_was(small):
    model = KINDS["backbone in Functional"]()
    parts = [model, *model.layers, *model.get_layer("backbone").layers]
    before = [(dict(vars(part)), len(part._inbound_nodes)) for part in parts]
    gradcam.GradCAM(model)(small[0])
    for part, (attributes, uses) in zip(parts, before):
        assert vars(part).keys() == attributes.keys() and len(part._inbound_nodes) == uses


def test_a_layer_that_is_none_or_several_lists_the_paths():
    inputs = keras.Input((SIDE, SIDE, 3))
    twins = [chain([conv1()], name=name)(inputs) for name in ("left", "right")]
    model = keras.Model(inputs, dense()(pool()(layers.Add()(twins))))
    for name in ("conv1", "conv", "pool"):
        with pytest.raises(ValueError, match=f"'{name}', from these .*left/conv1, .*right/conv1"):
            gradcam.GradCAM(model, name)
    assert gradcam.GradCAM(model, "right/conv1").layer == "right/conv1"


def two_outputs():
    x = keras.Input((SIDE, SIDE, 3))
    features = pool()(conv1()(x))
    return keras.Model(x, [dense()(features), layers.Dense(1, name="other")(features)])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: chain([layers.Rescaling(2), layers.Flatten(), dense()]), "height and width"),
        (lambda: backbone(), r"\(None, 6, 6, 5\)\] are not pictures.*scores \(N, classes\)"),
        (two_outputs, r"GradCAM\(keras.Model\(model.inputs, model.outputs\[0\]\)\)"),
        (
            lambda: chain([layers.Conv2D(5, 3, data_format="channels_first"), pool(), dense()]),
            "conv2d.* is channels_first; GradCAM reads",
        ),
        (sequential, r"Sequential has no graph.*model.build\(\(None, H, W"),
        (lambda: Subclassed(conv1()), r"Subclassed has no graph.*keras.Model\(x, model.call\(x\)"),
    ],
)
def test_unsuitable_model(make, message):
    with pytest.raises(ValueError, match=message):
        gradcam.GradCAM(make())


def transformer(x):
    x = layers.Reshape((36, 5))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


@pytest.mark.parametrize("head", [lambda: transformer, lambda: Subclassed(layers.Flatten())])
def test_what_hides_places_needs_a_layer(head, small):
    """The last map is far from the scores, and nothing says that it is the one wanted."""
    images, labels = small[0], [0, 1, 2, 3, 0]
    keras.utils.set_random_seed(0)
    model = chain([conv1(), conv2(), head(), dense()])
    with pytest.raises(ValueError, match="Choose layer, now None, from these.*: conv1, conv2"):
        gradcam.GradCAM(model)
    maps = gradcam.GradCAM(model, "conv2")(images, labels)
    assert close(maps, by_tape(model, "conv2", images, labels))


@pytest.mark.parametrize("shape", [(32, 32, 3), (2, 32, 32, 1), (2, 28, 28, 3), (0,)])
def test_pictures_of_another_shape_are_refused(explain, shape):
    with pytest.raises(ValueError, match=r"must be \(None, 32, 32, 3\)"):
        explain(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("labels", [[0] * 5, [[0] * 6], [0.5] * 6, "cat", [], [0, -1] * 3, 10])
def test_other_class_indices_are_refused(explain, pictures, labels):
    with pytest.raises(ValueError, match="class_indices: 0 to 9, one for all or 6, not"):
        explain(pictures, labels)
    with pytest.raises(ValueError, match="against: 0 to 9, one for all or 6, not"):
        explain(pictures, against=labels)


def test_nan_in_the_weights_is_refused():
    model = functional(dense())
    model.get_layer("dense").kernel.assign(np.full((5, 4), np.nan))
    with pytest.raises(ValueError, match="Map 0 holds NaN.*see the weights"):
        gradcam.GradCAM(model)(np.ones((2, SIDE, SIDE, 3)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_normalized_maps_reach_one_and_zeros_stay_zeros(dtype):
    maps = np.array([2, 4, 0], dtype)[:, None, None] * np.eye(8, dtype=dtype)
    for common, peaks in ((False, [1, 1, 0]), (True, [0.5, 1, 0])):
        scaled = gradcam.normalize(maps, common)
        assert scaled.dtype == np.float32
        assert np.array_equal(scaled, np.array(peaks)[:, None, None] * np.eye(8))
        assert not gradcam.normalize(0 * maps, common).any()


def test_upsampling_does_not_shift():
    """The peak at 8x8 place (2, 5) has its centre at pixel edge (10, 22) of 32x32."""
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    large, centers = gradcam.upsample(maps, (32, 32))[0], np.arange(32) + 0.5
    assert (large.sum(axis=1) @ centers) / large.sum() == pytest.approx(10)
    assert (large.sum(axis=0) @ centers) / large.sum() == pytest.approx(22)


def test_overlay_is_half_picture_half_color_and_hot_is_not_blue():
    grey = np.full((1, 3, 3), 128, np.uint8)
    cold, warm, hot = gradcam.overlay(grey, np.array([[0, 0.75, 1]]))[0].astype(int)
    assert warm[0] > warm[2] + 50  # red over blue
    assert np.abs(cold - 64).max() <= 2  # half of black
    assert hot.min() > 64 + 70  # half of a light yellow
