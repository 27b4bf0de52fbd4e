import re
from contextlib import contextmanager

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

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


def head_of(model):
    return model.get_layer("logits").get_weights()


@contextmanager
def other_weights(layer, weights):
    before = layer.get_weights()
    layer.set_weights(weights)
    try:
        yield
    finally:
        layer.set_weights(before)


def relu(x):
    return np.maximum(x, 0)


# What is exactly so, because the head is a mean over 8x8 and a dense layer W, b.


def test_gradcam_is_cam(model, explain, pictures):
    """dy_c/dA_k = W_kc / 64 at every place, so 64 times Grad-CAM is CAM."""
    A, _, _ = at(model, pictures)
    W, _ = head_of(model)
    for label in range(10):
        maps = explain(pictures, np.full(6, label))
        assert maps.shape == (6, 8, 8) and maps.dtype == np.float32
        assert np.allclose(maps, relu(A @ W[:, label]) / 64, rtol=0, atol=1e-6)


def test_before_the_relu_the_map_adds_up_to_the_logit(model, explain, pictures):
    W, _ = head_of(model)
    b = np.linspace(-1, 1, 10, dtype=np.float32)
    head = model.get_layer("logits")
    with other_weights(head, [W, b]):
        _, logits, _ = at(model, pictures)
        positive = explain(pictures, LABELS)  # the maps follow the weights
    with other_weights(head, [-W, -b]):
        negative = explain(pictures, LABELS)
    assert positive.max() > 0 and negative.max() > 0
    total = (positive - negative).sum(axis=(1, 2)) + b[LABELS]
    assert np.allclose(total, logits[np.arange(6), LABELS], rtol=1e-6, atol=2e-6)


def test_hirescam_and_layercam_at_the_features(model, explain, pictures):
    A, _, _ = at(model, pictures)
    W, _ = head_of(model)
    hires = gradcam.GradCAM(model, method="hirescam")(pictures, LABELS)
    assert np.allclose(hires, explain(pictures, LABELS), rtol=0, atol=1e-6)
    expected = np.einsum("nhwk,kn->nhw", A, relu(W)[:, LABELS]) / 64
    layer = gradcam.GradCAM(model, method="layercam")(pictures, LABELS)
    assert np.allclose(layer, expected, rtol=0, atol=1e-6)
    assert not np.allclose(layer, hires, atol=1e-3)


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_definitions_where_the_gradient_varies(model, pictures, method):
    """At the last addition, before normalisation and ReLU, no two methods are the same."""
    name = "stage3_block1_add"
    if method in ("gradcam++", "xgradcam"):  # made for A >= 0
        name = "stage3_block1_c_relu"
    A, logits, G = (each.astype(np.float64) for each in at(model, pictures, name))
    if method == "gradcam++":
        # The paper's equations 12, 13, 15, 17 and 19, without their common factor exp(y).
        Y = np.exp(logits[np.arange(6), LABELS])[:, None, None, None]
        first, second, third = Y * G, Y * G**2, Y * G**3
        divisor = 2 * second + A.sum(axis=(1, 2), keepdims=True) * third
        alpha = np.divide(second, divisor, out=np.zeros_like(A), where=divisor != 0)
        weights = (alpha * relu(first)).sum(axis=(1, 2), keepdims=True)
        expected = relu((weights * A).sum(axis=-1)) / Y[..., 0]
    elif method == "xgradcam":  # the paper's equations 7 and 8
        total = A.sum(axis=(1, 2), keepdims=True)
        share = np.divide(A, total, out=np.zeros_like(A), where=total != 0)
        expected = relu(((share * G).sum(axis=(1, 2), keepdims=True) * A).sum(axis=-1))
    elif method == "eigencam":  # the paper's equation 5, and the sign with more positive than not
        right = [np.linalg.svd(each.reshape(64, -1))[2][0] for each in A]
        projected = np.einsum("nhwk,nk->nhw", A, right)
        expected = relu(projected * np.sign(projected.sum(axis=(1, 2), keepdims=True)))
    else:
        mean = G.mean(axis=(1, 2), keepdims=True)
        factor = {"gradcam": mean, "hirescam": G, "layercam": relu(G)}[method]
        expected = relu((factor * A).sum(axis=-1))
    maps = gradcam.GradCAM(model, name, method)(pictures, LABELS)
    assert maps.max() > 0
    assert np.allclose(maps, expected, rtol=0, atol=1e-5 * maps.max())
    if method == "hirescam":
        other = gradcam.GradCAM(model, name)(pictures, LABELS)
        assert np.linalg.norm(maps - other) > 0.1 * np.linalg.norm(other)


def test_xgradcam_at_the_features(explain, model, pictures):
    """Where the gradient is the same everywhere, its weighted mean is its mean."""
    maps = gradcam.GradCAM(model, method="xgradcam")(pictures, LABELS)
    assert np.allclose(maps, explain(pictures, LABELS), rtol=0, atol=1e-6)


def test_eigencam_knows_no_class_and_no_sign(model, pictures):
    """After a ReLU the first singular vector has one sign: nothing of the map is cut off."""
    A, _, _ = at(model, pictures)
    maps = gradcam.GradCAM(model, method="eigencam")(pictures, LABELS)
    assert np.array_equal(maps, gradcam.GradCAM(model, method="eigencam")(pictures, 7))
    strongest = [np.linalg.norm(each.reshape(64, -1), ord=2) for each in A]
    assert np.allclose(np.linalg.norm(maps, axis=(1, 2)), strongest, rtol=1e-5)


def test_gradcam_plus_plus_against_numerical_derivatives():
    """First, second and third derivative of exp(logit), from differences in float64."""
    rng = np.random.default_rng(0)
    W1, W2 = rng.normal(size=(3, 8)), rng.normal(size=(8, 2))
    A = rng.uniform(0, 1, (4, 4, 3))
    A[0, 0], step = 0, 0.05

    def exp_logit(A):
        return np.exp((relu(A.mean(axis=(-3, -2)) @ W1) @ W2)[..., 1])

    moves = step * np.eye(48).reshape(48, 4, 4, 3)
    two, one, zero, minus_one, minus_two = (
        exp_logit(A + k * moves).reshape(4, 4, 3) for k in (2, 1, 0, -1, -2)
    )
    first = (one - minus_one) / (2 * step)
    second = (one - 2 * zero + minus_one) / step**2
    third = (two - 2 * one + 2 * minus_one - minus_two) / (2 * step**3)
    alpha = second / (2 * second + A.sum(axis=(0, 1)) * third)
    expected = relu(A @ (alpha * relu(first)).sum(axis=(0, 1))) / exp_logit(A)

    model = keras.Sequential([
        keras.Input((4, 4, 3)), layers.ReLU(), layers.GlobalAveragePooling2D(),
        layers.Dense(8, "relu", use_bias=False), layers.Dense(2, use_bias=False),
    ])  # fmt: skip
    model.set_weights([W1, W2])
    heat = gradcam.GradCAM(model, method="gradcam++")(A[None], [1])[0]
    assert expected.max() > 0
    assert np.allclose(heat, expected, rtol=0, atol=1e-3 * expected.max())


def test_channel_weights_against_finite_differences(model, pictures):
    """Raising channel k everywhere by e raises the logit by e * (places) * alpha_k."""
    name, label, step = "stage3_block1_add", LABELS[0], 1e-2
    A, _, _ = at(model, pictures[:1], name)
    to_logits = keras.Model(model.get_layer(name).output, model.get_layer("logits").output)
    raised = step * np.eye(256, dtype=np.float32)[:, None, None, :]
    up, down = (np.asarray(to_logits(A + sign * raised))[:, label] for sign in (1, -1))
    alpha = (up - down) / (2 * step) / (A.shape[1] * A.shape[2])
    expected = relu(A[0] @ alpha)
    heat = gradcam.GradCAM(model, layer=name)(pictures[:1], [label])[0]
    assert expected.max() > 0
    assert np.allclose(heat, expected, atol=0.01 * expected.max())


# Targets


def test_the_predicted_class_is_the_default(model, explain, pictures):
    _, logits, _ = at(model, pictures)
    predicted = logits.argmax(axis=1)
    assert np.array_equal(explain(pictures), explain(pictures, predicted))
    assert np.array_equal(explain(pictures, against=3), explain(pictures, predicted, [3] * 6))


def test_one_class_for_all(explain, pictures):
    assert np.array_equal(explain(pictures, 3), explain(pictures, np.full(6, 3, np.uint8)))


def test_contrast_is_the_difference_before_the_relu(model, explain, pictures):
    A, _, _ = at(model, pictures)
    W, _ = head_of(model)
    others = (LABELS + 1) % 10
    expected = np.einsum("nhwk,kn->nhw", A, W[:, LABELS] - W[:, others]) / 64
    maps = explain(pictures, LABELS, against=others)
    assert np.allclose(maps, relu(expected), rtol=0, atol=1e-6)
    assert np.allclose(maps - explain(pictures, others, LABELS), expected, rtol=0, atol=1e-6)
    assert not explain(pictures, LABELS, against=LABELS).any()


def test_what_the_probabilities_leave_open_changes_the_logit_map_only(model, explain, pictures):
    W, b = head_of(model)
    shift = np.random.default_rng(1).normal(0, 0.1, (256, 1)).astype(np.float32)

    def look():
        probabilities = model(pictures.astype(np.float32), training=False).numpy()
        return probabilities, explain(pictures, LABELS), explain(pictures, LABELS, against=7)

    before = look()
    with other_weights(model.get_layer("logits"), [W + shift, b]):
        after = look()
    assert np.allclose(before[0], after[0], rtol=0, atol=1e-6)
    assert np.abs(before[1] - after[1]).max() > 0.1 * before[1].max()
    assert before[2].max() > 0 and np.allclose(before[2], after[2], rtol=0, atol=1e-6)


def single_unit(*end):
    unit = layers.Dense(1, name="unit", kernel_initializer=keras.initializers.HeNormal(4))
    return chain([conv1(), conv2(), pool(), unit, *end])


@pytest.mark.parametrize("end", [(), (layers.Activation("sigmoid"),), (keras.ops.sigmoid,)])
def test_a_single_unit_stands_for_two_classes(end, small):
    images, _ = small
    model = single_unit(*end)
    unit = model.get_layer("unit")
    A, logits = keras.Model(model.input, [model.get_layer("conv2").output, unit.output])(images)
    unit.bias.assign([-np.median(logits)])
    logits = logits.numpy()[:, 0] - np.median(logits)
    positive = np.array(logits > 0, int)
    assert set(positive) == {0, 1}
    if end:
        assert np.array_equal(positive, model(images).numpy()[:, 0] > 0.5)

    explain = gradcam.GradCAM(model)
    evidence = np.einsum("nhwk,k->nhw", A, unit.kernel.numpy()[:, 0]) / 36
    assert close(explain(images, 1), relu(evidence))
    assert close(explain(images, 0), relu(-evidence))
    assert np.array_equal(explain(images), explain(images, positive))
    assert close(explain(images, 1, against=0), relu(2 * evidence))
    with pytest.raises(ValueError, match="2 is out of range; there are 0 to 1"):
        explain(images, 2)


# Kinds of models: the same small network in many forms, its maps known from NumPy.

SIDE = 12


def conv1(**kw):
    return layers.Conv2D(
        6, 3, padding="same", activation="relu", name="conv1", **kw,
        kernel_initializer=keras.initializers.HeNormal(1),
    )  # fmt: skip


def conv2(**kw):
    return layers.Conv2D(
        5, 3, 2, padding="same", activation="relu", name="conv2", **kw,
        kernel_initializer=keras.initializers.HeNormal(2),
    )  # fmt: skip


def pool(**kw):
    return layers.GlobalAveragePooling2D(name="pool", **kw)


def dense(activation=None, **kw):
    return layers.Dense(
        4, activation, name="dense", **kw, kernel_initializer=keras.initializers.HeNormal(3)
    )


def chain(steps, side=SIDE, name=None, dtype=None):
    x = inputs = keras.Input((side, side, 3), dtype=dtype)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name=name)


def functional(*end, **kw):
    return chain([conv1(), conv2(), pool(), *end], **kw)


def backbone():
    return chain([conv1(), conv2()], name="backbone")


def backbone_sequential():
    return keras.Sequential([conv1(), conv2()], name="backbone")


def sequential(*start):
    return keras.Sequential([*start, conv1(), conv2(), pool(), dense(), layers.Softmax()])


def called(model):
    model(np.zeros((3, SIDE, SIDE, 3), np.float32))
    return model


def shared_relu():
    relu, first, second = layers.ReLU(name="relu"), conv1(), conv2()
    first.activation = second.activation = None
    return chain([first, relu, second, relu, pool(), dense()])


def one_by_one_head():
    """As MobileNet's: pooled to 1x1, a 1x1 convolution, then flat."""
    shape = layers.Reshape((1, 1, 4))
    return functional(
        dense(), shape, layers.Activation("linear"), layers.Softmax(), layers.Flatten()
    )


def eight_bits():
    return chain([layers.Rescaling(1.0), conv1(), conv2(), pool(), dense("softmax")], dtype="uint8")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.tail = backbone_sequential(), keras.Sequential([pool(), dense()])

    def call(self, x):
        return tf.nn.softmax(self.tail(self.body(x)))


def linear_conv2():
    layer = conv2()
    layer.activation = None
    return layer


def halves_added(x):
    """As it was, by an operation."""
    return x * 0.5 + x * 0.5


class Block(layers.Layer):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.steps = [conv1(), linear_conv2()]

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return tf.nn.relu(x)


class WithOperations(keras.Model):
    """Its last feature map is put out by no layer."""

    def __init__(self):
        super().__init__()
        self.block, self.pool, self.dense = Block(name="block"), pool(), dense()

    def call(self, x):
        return self.dense(self.pool(halves_added(self.block(x))))


class Compiled(WithOperations):
    call = tf.function(WithOperations.call)


class BlockAtTheEnd(WithOperations):
    def call(self, x):
        return self.dense(tf.reduce_mean(self.block(x), axis=(1, 2)))


KINDS = {
    "functional, logits": lambda: functional(dense()),
    "functional, softmax layer": lambda: functional(dense(), layers.Activation("softmax")),
    "functional, softmax in the dense layer": lambda: functional(dense("softmax")),
    "functional, log softmax": lambda: functional(dense("log_softmax")),
    "functional, softmax as an operation": lambda: functional(dense(), keras.ops.softmax),
    "functional, sigmoid": lambda: functional(dense("sigmoid")),
    "functional, any size": lambda: functional(dense("softmax"), side=None),
    "functional, 8-bit input": eight_bits,
    "functional, layer used twice": shared_relu,
    "functional, 1x1 head": one_by_one_head,
    "sequential with Input": lambda: sequential(keras.Input((SIDE, SIDE, 3))),
    "sequential, not built": sequential,
    "sequential, built by a call": lambda: called(sequential()),
    "backbone in functional": lambda: chain([backbone(), pool(), dense("softmax")]),
    "backbone in sequential": lambda: keras.Sequential([backbone(), pool(), dense("softmax")]),
    "sequential in sequential": lambda: keras.Sequential([
        keras.Sequential([keras.Sequential([conv1()]), conv2()]),
        keras.Sequential([pool(), dense()]),
    ]),
    "subclassed, not built": Subclassed,
    "subclassed, built by a call": lambda: called(Subclassed()),
    "functional, ends in an operation": lambda: chain([
        conv1(), linear_conv2(), keras.ops.relu, pool(), dense("softmax")
    ]),
    "functional, ends in a sum": lambda: chain([conv1(), conv2(), halves_added, pool(), dense()]),
    "backbone that ends in a sum": lambda: chain([
        chain([conv1(), conv2(), halves_added], name="backbone"), pool(), dense()
    ]),
    "subclassed, ends in a sum": WithOperations,
    "subclassed, its call a tf.function": Compiled,
    "subclassed, ends in a layer of layers": BlockAtTheEnd,
}  # fmt: skip
LAST = {  # the layer explained where it is not conv2
    "functional, layer used twice": "relu",
    "functional, ends in an operation": r"relu(_\d+)?",
    "functional, ends in a sum": r"add(_\d+)?",
    "backbone that ends in a sum": r"backbone/add(_\d+)?",
    "subclassed, ends in a sum": "add",
    "subclassed, its call a tf.function": "add",
    "subclassed, ends in a layer of layers": "block",
}


@pytest.fixture(scope="module")
def small():
    """Pictures for the small network and its layers' outputs."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 9, (5, SIDE, SIDE, 3)) * rng.integers(0, 3, (5, 1, 1, 3))
    images = images.astype(np.float32)
    first, second, last = conv1(), conv2(), dense()
    one = first(images)
    two = second(one)
    scores = last(pool()(two)).numpy()
    predicted = scores.argmax(axis=1)
    W = last.get_weights()[0]
    maps = relu(np.einsum("nhwk,kn->nhw", two, W[:, predicted])) / two.shape[1] ** 2
    assert len(set(predicted)) > 1 and maps.max() > 0
    return images, maps


def weights_of(model):
    return [each.numpy() for each in model.weights]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind, small):
    images, expected = small
    model = KINDS[kind]()
    explain = gradcam.GradCAM(model)
    assert np.allclose(explain(images), expected, rtol=1e-6, atol=1e-6)
    assert re.fullmatch(LAST.get(kind, "(.*/)?conv2"), explain.layer)
    assert np.array_equal(gradcam.GradCAM(model, explain.layer)(images), explain(images))
    assert explain(images[:1]).shape == (1, SIDE // 2, SIDE // 2)
    assert explain._compiled.experimental_get_tracing_count() == 1
    # The model works as before, for any batch.
    assert np.allclose(model(images).numpy()[:1], model.predict(images[:1], verbose=0), atol=1e-6)
    if isinstance(model, keras.Sequential):
        assert ("built" in kind and "call" in kind) or model.input_shape[0] is None


@pytest.mark.parametrize("kind", ["functional, any size", "subclassed, not built"])
def test_pictures_of_another_size(kind, small):
    explain = gradcam.GradCAM(KINDS[kind]())
    assert explain(np.zeros((2, 12, 12, 3))).shape == (2, 6, 6)
    if "any" in kind:
        assert explain(np.zeros((2, 20, 32, 3))).shape == (2, 10, 16)
        assert explain._compiled.experimental_get_tracing_count() == 1
    else:
        with pytest.raises(ValueError, match=r"the model wants \(None, 12, 12, 3\)"):
            explain(np.zeros((2, 20, 32, 3)))


@pytest.mark.parametrize("name", ["conv1", "backbone/conv1"])
@pytest.mark.parametrize("kind", ["backbone in functional", "backbone in sequential"])
def test_a_layer_inside_a_backbone(kind, name, small):
    images, _ = small
    flat = gradcam.GradCAM(functional(dense()), "conv1")(images)
    explain = gradcam.GradCAM(KINDS[kind](), name)
    assert explain.layer == "backbone/conv1"
    assert flat.max() > 0 and np.allclose(explain(images), flat, rtol=1e-6, atol=1e-6)


def test_a_backbone_is_a_layer_too(small):
    images, expected = small
    explain = gradcam.GradCAM(KINDS["backbone in functional"](), "backbone")
    assert np.allclose(explain(images), expected, rtol=1e-6, atol=1e-6)


def test_operations_by_name(small):
    """In a functional model by Keras' names, in a subclassed one after the layer around them."""
    images, expected = small
    model = KINDS["backbone that ends in a sum"]()
    *_, product, total = (node.name for node in model.get_layer("backbone").operations)
    for name in (total, f"backbone/{total}"):
        explain = gradcam.GradCAM(model, name)
        assert explain.layer == f"backbone/{total}"
        assert np.allclose(explain(images), expected, rtol=1e-6, atol=1e-6)
    assert np.allclose(gradcam.GradCAM(model, product)(images), expected / 2, atol=1e-6)
    model = WithOperations()
    explain = gradcam.GradCAM(model, "mul_1")
    assert np.allclose(explain(images), expected / 2, atol=1e-6)
    explain = gradcam.GradCAM(model, "BiasAdd")
    assert explain(images).shape == (5, SIDE, SIDE) and explain.layer == "block/conv1/BiasAdd"
    with pytest.raises(ValueError, match="several layers; .*/conv1/convolution, .*/conv2/convol"):
        gradcam.GradCAM(model, "convolution")(images)


# Heads: where the last map is


def excited(x):
    """Squeeze and excitation, with maps of 1x1."""
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(5, 1, activation="sigmoid")(gate)
    return layers.Multiply(name="excited")([x, gate])


def attended(x):
    """Attention over the places, put back in rows and columns."""
    x = layers.Reshape((36, 5))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return layers.Reshape((6, 6, 5), name="back")(x)


def gaps(x):
    """Two kinds of pooling of the same map."""
    return layers.Concatenate()([pool()(x), layers.GlobalMaxPooling2D()(x)])


def of_two_depths(x):
    deeper = layers.Conv2D(5, 3, name="deeper")(x)
    return layers.Concatenate()([pool()(x), layers.GlobalMaxPooling2D()(deeper)])


ops = keras.ops
HEADS = {
    "max-pooling, flat": ("conv2", layers.MaxPooling2D, lambda: layers.Dropout(0.5)),
    "average pooling, flat": ("conv2", lambda: layers.AveragePooling2D(3)),
    "max-pooling by an operation": ("conv2", lambda: lambda x: ops.max_pool(x, 2)),
    "pooled to 1x1, convolved": (
        "conv2", lambda: layers.GlobalAveragePooling2D(keepdims=True), lambda: layers.Conv2D(7, 1)
    ),
    "convolved to 1x1": ("conv2", lambda: layers.Conv2D(7, 6)),
    "mean and maximum": ("conv2", lambda: gaps),
    "mean of rows, then of columns": ("conv2", lambda: lambda x: ops.mean(ops.mean(x, 1), 1)),
    "mean of a sequence": (
        "conv2", lambda: layers.Reshape((36, 5)), layers.GlobalAveragePooling1D
    ),
    "normalised after the mean": ("conv2", pool, layers.LayerNormalization),
    "noise that rests": ("conv2", lambda: layers.SpatialDropout2D(0.5), layers.RandomFlip),
    "two depths": ("deeper", lambda: of_two_depths),
    "dense at every place": ("dense_5", lambda: layers.Dense(5, "silu", name="dense_5"), pool),
    "squeeze and excitation": ("excited", lambda: excited, pool),
    "attention": ("back", lambda: attended, pool),
    "channels shuffled": (
        "shuffled", lambda: layers.Reshape((6, 6, 5, 1)), lambda: layers.Permute((1, 2, 4, 3)),
        lambda: layers.Reshape((6, 6, 5), name="shuffled"), pool,
    ),
    "enlarged": ("last", layers.UpSampling2D, lambda: layers.Conv2D(5, 3, name="last"), pool),
    "groups, cut, padded": (
        "last", lambda: layers.Conv2D(4, 1, groups=1), lambda: layers.Cropping2D(1),
        lambda: layers.ZeroPadding2D(2), lambda: layers.Conv2D(4, 3, groups=2, name="last"), pool,
    ),
    "transposed convolution": ("last", lambda: layers.Conv2DTranspose(4, 3, 2, name="last"), pool),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_the_last_map_before_the_head(head, small):
    images, _ = small
    layer, *steps = HEADS[head]
    keras.utils.set_random_seed(0)
    model = chain([conv1(), conv2(), *(step() for step in steps), layers.Flatten(), dense()])
    explain = gradcam.GradCAM(model)
    assert explain.layer == layer
    labels = [0, 1, 2, 3, 0]
    assert close(explain(images, labels), by_tape(model, layer, images, labels))


def test_maps_lie_as_the_picture_does(small):
    """Height and width are followed through transpositions."""
    images, _ = small
    flipped = chain([
        conv1(), layers.Permute((2, 1, 3), name="permuted"), conv2(), pool(), dense()
    ])  # fmt: skip
    maps = gradcam.GradCAM(flipped)(images, 1)
    assert close(maps, by_tape(flipped, "conv2", images, [1] * 5).transpose(0, 2, 1))
    maps = gradcam.GradCAM(flipped, "permuted")(images, 1)
    assert np.array_equal(maps, gradcam.GradCAM(flipped, "conv1")(images, 1))
    first = chain([
        conv1(), conv2(), layers.Permute((3, 1, 2), name="first"), layers.Flatten(), dense()
    ])  # fmt: skip
    explain = gradcam.GradCAM(first)
    assert explain.layer == "first"
    assert close(explain(images, 1), by_tape(first, "conv2", images, [1] * 5))


APPLICATIONS = {
    "MobileNetV2": (64, "out_relu"), "EfficientNetB0": (64, "top_activation"),
    "ResNet50V2": (64, "post_relu"), "DenseNet121": (64, "relu"), "VGG16": (32, "block5_conv3"),
    "ConvNeXtTiny": (64, None),  # the last block's `x + y`, which Keras numbers anew every time
}  # fmt: skip


@pytest.mark.parametrize("name", APPLICATIONS)
def test_keras_applications(name):
    side, layer = APPLICATIONS[name]
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(side, side, 3), classes=4)
    images = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    explain = gradcam.GradCAM(model)
    add, *_ = model.operations[-4:]  # then mean, normalisation, dense
    assert explain.layer == (layer or add.name)
    assert close(explain(images, [1, 2]), by_tape(model, explain.layer, images, [1, 2]))


@pytest.mark.parametrize("policy, error", [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
@pytest.mark.parametrize("method", gradcam.METHODS)
def test_mixed_precision(policy, error, method, small):
    images, _ = small
    steps = (conv1, conv2, pool, lambda dtype: dense("softmax", dtype=dtype))
    mixed = chain([step(dtype=policy) for step in steps])
    maps = gradcam.GradCAM(mixed, method=method)(images, 1)
    expected = gradcam.GradCAM(functional(dense("softmax")), method=method)(images, 1)
    assert maps.dtype == np.float32
    assert np.allclose(maps, expected, rtol=0, atol=error * expected.max())
    assert not np.array_equal(maps, expected)


def test_the_course_network_is_explained_at_its_features(explain):
    assert explain.layer == "features"


def test_the_model_is_left_as_it_was(small, tmp_path):
    model = KINDS["backbone in functional"]()
    parts = [model, *model.layers, *model.get_layer("backbone").layers]
    vars(parts[-1])["call"] = parts[-1].call  # as other tools do
    before = [dict(vars(each)) for each in parts]
    weights, config = weights_of(model), model.to_json()
    for layer in (None, "conv1", "pool", "nothing"):
        try:
            gradcam.GradCAM(model, layer)(small[0])
        except ValueError:
            assert layer in ("pool", "nothing")
    for each, attributes in zip(parts, before):
        assert vars(each).keys() == attributes.keys()
        assert vars(each).get("call") is attributes.get("call")
    assert model.to_json() == config
    assert all(map(np.array_equal, weights_of(model), weights))
    model.save(tmp_path / "model.keras")


# Batches


def test_pictures_do_not_mix_and_batches_do_not_matter(explain, pictures):
    whole = explain(pictures, LABELS)
    alone = np.concatenate([explain(pictures[i : i + 1], LABELS[i : i + 1]) for i in range(6)])
    assert np.allclose(whole, alone, atol=1e-6)
    assert np.allclose(whole, explain(pictures, LABELS, batch_size=4), atol=1e-6)


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_one_trace_for_every_batch_size_and_target(small, method):
    images, _ = small
    explain = gradcam.GradCAM(functional(dense()), method=method)
    for count in (1, 3, 5):
        explain(images[:count])
        explain(images[:count].astype(np.uint8), np.zeros(count, int))
        explain(images[:count], 1, against=[2] * count)
    assert explain._compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_same_numbers_every_time(small, method):
    images, _ = small
    model = functional(dense())
    explain = gradcam.GradCAM(model, method=method)
    maps = explain(images)
    assert np.array_equal(maps, explain(images))
    assert np.array_equal(maps, gradcam.GradCAM(model, method=method)(images))


@pytest.mark.parametrize("labels", [None, [], np.zeros(0, int)])
def test_no_pictures_give_no_maps(explain, labels):
    maps = explain(np.zeros((0, 32, 32, 3), np.uint8), labels)
    assert maps.shape == (0, 8, 8) and maps.dtype == np.float32
    for common in (False, True):
        scaled = gradcam.normalise(maps, common)
        assert gradcam.upsample(scaled, (32, 32)).shape == (0, 32, 32)


# Bad input


def test_unknown_method_lists_the_valid_ones(model):
    valid = r"gradcam, gradcam\+\+, hirescam, layercam, xgradcam, eigencam"
    with pytest.raises(ValueError, match=f"No method 'scorecam'; there are: {valid}"):
        gradcam.GradCAM(model, method="scorecam")


@pytest.mark.parametrize("layer", ["feature", "pooled", "logits"])
def test_unsuitable_layer_lists_the_valid_ones(model, layer):
    message = f"'{layer}' is no layer with height and width; the last ten of .*block1_add.*features"
    with pytest.raises(ValueError, match=message):
        gradcam.GradCAM(model, layer)


def test_ambiguous_layer_lists_the_paths():
    inputs = keras.Input((SIDE, SIDE, 3))
    left, right = chain([conv1()], name="left"), chain([conv1()], name="right")
    x = layers.Add()([left(inputs), right(inputs)])
    model = keras.Model(inputs, dense()(pool()(x)))
    with pytest.raises(ValueError, match="several layers; these are: left/conv1, right/conv1"):
        gradcam.GradCAM(model, "conv1")
    assert gradcam.GradCAM(model, "right/conv1").layer == "right/conv1"


def test_layer_without_influence():
    model = chain([conv1(), keras.ops.stop_gradient, conv2(), pool(), dense()])
    with pytest.raises(ValueError, match="do not depend on the output of 'conv1'"):
        gradcam.GradCAM(model, "conv1")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: chain([layers.Flatten(), dense()]), "no layer with height and width"),
        (lambda: chain([layers.MaxPooling2D(), layers.Flatten(), dense()]), "no layer with height"),
        (lambda: chain([conv1(), conv2()]), r"scores \(N, classes\), not \(None, 6, 6, 5\)"),
        (lambda: keras.Sequential([keras.Input((7,)), dense()]), r"pictures.*not \(None, 7\)"),
    ],
)
def test_unsuitable_model(make, message):
    with pytest.raises(ValueError, match=message):
        gradcam.GradCAM(make())


def transformer(x):
    x = layers.Reshape((36, 5))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


class InAFunction(Subclassed):
    def call(self, x):
        return tf.function(self.tail)(self.body(x))


@pytest.mark.parametrize(
    "steps",
    [
        [lambda: transformer],
        [lambda: layers.Reshape((6, 30)), lambda: layers.LSTM(3)],
        [lambda: layers.Reshape((36, 5)), lambda: layers.Conv1D(5, 3), layers.Flatten],
    ],
    ids=["transformer", "LSTM", "Conv1D"],
)
def test_a_sequence_needs_a_layer(steps, small):
    """The last map is far from the scores, and nothing says that it is the one wanted."""
    images, _ = small
    keras.utils.set_random_seed(0)
    model = chain([conv1(), conv2(), *(step() for step in steps), dense()])
    with pytest.raises(ValueError, match=r"After 'conv2', \(None, 6, 6, 5\), .* layer='conv2'"):
        gradcam.GradCAM(model)
    labels = [0, 1, 2, 3, 0]
    maps = gradcam.GradCAM(model, "conv2")(images, labels)
    assert close(maps, by_tape(model, "conv2", images, labels))


def test_a_function_hides_what_it_does(small):
    model = InAFunction()
    with pytest.raises(ValueError, match="After 'backbone/conv2', .* in a function that cannot be"):
        gradcam.GradCAM(model)(small[0])
    assert gradcam.GradCAM(model, "conv2")(small[0]).max() > 0


def test_several_last_maps_need_a_layer(small):
    branches = [layers.Conv2D(3, 3, name=name) for name in ("left", "right")]

    def joined(x):
        return layers.Concatenate()([layers.GlobalMaxPooling2D()(each(x)) for each in branches])

    model = chain([conv1(), joined, dense()])
    with pytest.raises(ValueError, match="several last maps: left, right. Name one as layer"):
        gradcam.GradCAM(model)
    maps = gradcam.GradCAM(model, "right")(small[0], 1)
    assert close(maps, by_tape(model, "right", small[0], [1] * 5))


@pytest.mark.parametrize("layer", [None, "maps"])
@pytest.mark.parametrize("kind", [layers.Conv2D, layers.SeparableConv2D, layers.DepthwiseConv2D])
def test_channels_first_is_refused(kind, layer):
    size = {"depth_multiplier": 2} if kind is layers.DepthwiseConv2D else {"filters": 6}
    x = inputs = keras.Input((3, SIDE, SIDE))
    x = kind(kernel_size=3, data_format="channels_first", name="maps", **size)(x)
    model = keras.Model(inputs, dense()(pool(data_format="channels_first")(x)))
    with pytest.raises(ValueError, match="'maps' works with channels first.*channels_last"):
        gradcam.GradCAM(model, layer)


@pytest.mark.parametrize("shape", [(32, 32, 3), (2, 32, 32, 1), (2, 32, 32), (2, 28, 28, 3), (0,)])
def test_pictures_of_another_shape_are_refused(explain, shape):
    with pytest.raises(ValueError, match=r"the model wants \(None, 32, 32, 3\)"):
        explain(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("labels", [[0] * 5, [[0] * 6], [0.5] * 6, ["cat"] * 6, [], [True] * 6])
def test_class_indices_of_another_form_are_refused(explain, pictures, labels):
    with pytest.raises(ValueError, match="class_indices is .*one integer per picture"):
        explain(pictures, labels)
    with pytest.raises(ValueError, match="against is .*one integer per picture"):
        explain(pictures, against=labels)


@pytest.mark.parametrize("label", [-1, 10, 281])
def test_class_index_out_of_range_is_refused(explain, pictures, label):
    message = f": {label} is out of range; there are 0 to 9"
    with pytest.raises(ValueError, match=f"class_indices{message}"):
        explain(pictures, [0, 0, label, 0, 0, 0])
    with pytest.raises(ValueError, match=f"against{message}"):
        explain(pictures, against=label)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_in_a_picture_is_refused(explain, pictures, value):
    broken = pictures.astype(np.float32)
    broken[4, 3, 2, 1] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in the pictures, first in images\[4\]"):
        explain(broken)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layer", ["stem_conv", "stem_norm", "logits"])
def test_nan_in_the_weights_is_refused(model, explain, pictures, layer, value):
    weights = model.get_layer(layer).get_weights()
    weights[0].flat[-1] = value  # of the head: in another class than the one explained
    message = f"infinity in the weights, first in '{layer}"
    with other_weights(model.get_layer(layer), weights), pytest.raises(ValueError, match=message):
        explain(pictures, 0)


def test_overflow_is_refused_and_told_from_broken_input(explain, pictures):
    huge = pictures.astype(np.float32)
    huge[5] *= 1e36
    with pytest.raises(ValueError, match=r"images\[5\] leads to NaN or infinity.*overflows"):
        explain(huge, batch_size=4)


# Scaling and drawing


def test_normalised_maps_reach_one_and_zeros_stay_zeros():
    maps = np.stack([np.arange(64.0, dtype=np.float32).reshape(8, 8), np.zeros((8, 8), np.float32)])
    scaled = gradcam.normalise(maps)
    assert scaled[0].max() == 1 and scaled[0].min() == 0
    assert np.array_equal(scaled[1], np.zeros((8, 8)))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float16, np.float64])
def test_maps_of_any_number_are_scaled_and_drawn(dtype, pictures):
    """As the same numbers in float32."""
    maps = (np.arange(64).reshape(1, 8, 8) * 1.5).astype(dtype)
    plain = maps.astype(np.float32)
    for common in (False, True):
        scaled = gradcam.normalise(maps, common)
        assert scaled.dtype in (np.float32, np.float64)
        assert np.allclose(scaled, plain / plain.max(), rtol=1e-6)
    assert np.array_equal(gradcam.upsample(maps, (32, 32)), gradcam.upsample(plain, (32, 32)))
    levels = maps[0, :, :1] if dtype != np.float16 else np.linspace(0, 1, 8, dtype=dtype)[:, None]
    drawn = gradcam.overlay(pictures[0, :8, :1], levels)
    assert np.array_equal(drawn, gradcam.overlay(pictures[0, :8, :1], levels.astype(np.float32)))


def test_common_scale_keeps_strength():
    maps = np.array([2.0, 4.0, 0.0], np.float32)[:, None, None] * np.ones((8, 8), np.float32)
    assert np.array_equal(gradcam.normalise(maps, common=True)[:, 0, 0], [0.5, 1, 0])
    assert np.array_equal(gradcam.normalise(maps)[:, 0, 0], [1, 1, 0])
    assert not gradcam.normalise(0 * maps, common=True).any()


def test_no_evidence_gives_zeros_without_nan(model, explain, pictures):
    against_all = [-np.abs(w) for w in head_of(model)]
    with other_weights(model.get_layer("logits"), against_all):
        maps = explain(pictures)
    heat = gradcam.upsample(gradcam.normalise(maps), (32, 32))
    assert np.array_equal(heat, np.zeros((6, 32, 32)))
    painted = gradcam.overlay(pictures[0], heat[0])
    assert painted.shape == (32, 32, 3) and painted.dtype == np.uint8


def test_upsampling_does_not_shift():
    """The peak at 8x8 place (2, 5) has its centre at pixel edge (10, 22) of 32x32."""
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    large = gradcam.upsample(maps, (32, 32))[0]
    centers = np.arange(32) + 0.5
    assert (large.sum(axis=1) @ centers) / large.sum() == pytest.approx(10)
    assert (large.sum(axis=0) @ centers) / large.sum() == pytest.approx(22)
    assert np.array_equal(large[::-1], gradcam.upsample(maps[:, ::-1], (32, 32))[0])


@pytest.mark.parametrize("colormap", [cv2.COLORMAP_INFERNO, cv2.COLORMAP_JET, cv2.COLORMAP_TURBO])
def test_hot_is_red_not_blue(colormap):
    grey = np.full((1, 2, 3), 128, np.uint8)
    heat = np.array([[0.0, 0.75]])
    (cold, hot) = gradcam.overlay(grey, heat, colormap=colormap)[0].astype(int)
    assert hot[0] > hot[2] + 50  # red over blue
    assert cold[0] <= cold[2]


def test_overlay_blends(pictures):
    heat = np.zeros((32, 32))
    assert np.array_equal(gradcam.overlay(pictures[0], heat, strength=0.0), pictures[0])
    red = gradcam.overlay(pictures[0], heat + 1, strength=1.0, colormap=cv2.COLORMAP_JET)
    assert np.all(red == (128, 0, 0))
