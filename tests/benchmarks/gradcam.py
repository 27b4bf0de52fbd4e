"""What Grad-CAM costs beside a prediction of the same batch, here and in other people's code.

Run by hand on an idle machine: python tests/benchmarks/gradcam.py
Other packages, if wanted: pip install tf-keras-vis==0.8.7 scikit-image scikit-learn einops, and
pip install --no-deps xplique==2.0.2 tensorflow-probability tf-keras dm-tree cloudpickle decorator

Everyone gets the same float32 batch and known classes in NumPy and gives NumPy back. The unit is
`model(x, training=False)` in a tf.function. A repeat runs every contender once, in turn, so that
all share the machine's moods; figures are of contender / prediction within a repeat.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from helpers.explanation import gradcam  # noqa: E402
from helpers.training.resnet import resnet_v2  # noqa: E402

LOOP_AT_MOST = 4  # pictures; the loop over pictures is timed on these and multiplied


def network(logits=False):
    """Always the same weights; everyone has their own, since some leave marks on the layers."""
    keras.utils.set_random_seed(0)
    model = resnet_v2(20)
    return keras.Model(model.input, model.get_layer("logits").output) if logits else model


def batch_of(n):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, n)


def prediction():
    model = network()
    predict = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)],
    )
    return lambda images, classes: predict(images).numpy()


def ours(method="gradcam"):
    explain = gradcam.GradCAM(network(), method=method)
    return lambda images, classes: explain(images, classes, batch_size=len(images))


def keras_example():
    """keras.io/examples/vision/grad_cam: eager, its model built anew in every call.

    The published function takes one picture; here it takes a batch at once, which is kinder.
    """
    model = network(logits=True)

    def explain(images, classes):
        outputs = [model.get_layer("features").output, model.output]
        grad_model = keras.Model(model.input, outputs)
        with tf.GradientTape() as tape:
            features, logits = grad_model(images)
            score = tf.gather(logits, classes, batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2))
        return tf.nn.relu(tf.einsum("nhwk,nk->nhw", features, weights)).numpy()

    return explain


def one_by_one():
    """The same steps for one picture after the other, as the course's first notebook had it."""
    explain = keras_example()

    def loop(images, classes):
        return np.concatenate([explain(x[None], [c]) for x, c in zip(images, classes)])

    return loop


def tf_keras_vis(name="Gradcam", logits=True, **options):
    """8x8 and not rescaled, unless the options say otherwise."""
    from tf_keras_vis import gradcam, gradcam_plus_plus, layercam
    from tf_keras_vis.utils.scores import CategoricalScore

    modules = {"Gradcam": gradcam, "GradcamPlusPlus": gradcam_plus_plus, "Layercam": layercam}
    explain = getattr(modules[name], name)(network(logits))
    options = {
        "penultimate_layer": "features", "seek_penultimate_conv_layer": False,
        "expand_cam": False, "normalize_cam": False, **options,
    }  # fmt: skip
    return lambda images, classes: np.asarray(
        explain(CategoricalScore(classes.tolist()), images, **options)
    )


def xplique(name="GradCAM", logits=True, **options):
    """Always enlarged to the picture's 32x32, bicubic."""
    from xplique import attributions

    explain = getattr(attributions, name)(network(logits), conv_layer="features", **options)

    def run(images, classes):
        explain.batch_size = len(images)
        return explain(images, np.eye(10, dtype=np.float32)[classes]).numpy()[..., 0]

    return run


CONTENDERS = {
    "prediction": prediction,
    **{f"ours, {method}": partial(ours, method) for method in gradcam.METHODS},
    "tf-keras-vis": tf_keras_vis,
    "xplique": xplique,
    "Keras example": keras_example,
    "one picture at a time": one_by_one,
}


def seconds(run, images, classes):
    start = time.perf_counter()
    run(images, classes)
    return time.perf_counter() - start


def measure(runs, n, repeats):
    """Seconds per contender, (repeats,) each."""
    images, classes = batch_of(n)
    times = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(-2, repeats):  # the first two warm up
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            few = min(n, LOOP_AT_MOST) if "at a time" in name else n
            spent = seconds(runs[name], images[:few], classes[:few]) * n / few
            if repeat >= 0:
                times[name].append(spent)
    return {name: np.array(spent) for name, spent in times.items()}


def time_table(batches, repeats):
    runs = {}
    for name, make in CONTENDERS.items():
        try:
            runs[name] = make()
        except ImportError:
            runs[name] = None
    times = {n: measure({k: v for k, v in runs.items() if v}, n, repeats) for n in batches}
    print("Prediction, ms (median):", end=" ")
    print(*(f"{n}: {1e3 * np.median(times[n]['prediction']):.2f}" for n in batches), sep=", ")
    print(f"\nTimes the prediction: median and quartiles of {repeats} repeats, per batch size\n")
    print(f"{'':22}" + "".join(f"{n:^22}" for n in batches))
    for name in CONTENDERS:
        cells = [f"{'not installed':^22}"] * len(batches)
        if runs[name]:
            ratios = [times[n][name] / times[n]["prediction"] for n in batches]
            quartiles = [np.percentile(each, (25, 50, 75)) for each in ratios]
            cells = [f"{q2:8.2f} ({q1:.2f}-{q3:.2f})".ljust(22) for q1, q2, q3 in quartiles]
        print(f"{name:22}" + "".join(cells))
    print(f"'one picture at a time' is timed on at most {LOOP_AT_MOST} pictures, then multiplied.")


def equality_table(n=16):
    images, classes = batch_of(n)
    own = {method: ours(method)(images, classes)[..., None] for method in gradcam.METHODS}

    def cam(size=None, how="bilinear", method="gradcam"):
        return tf.image.resize(own[method], size or (8, 8), how).numpy()[..., 0]

    def each_to_one(maps):  # a factor per picture shall not count
        return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)

    vis, xpl, pixels = tf_keras_vis, xplique, (32, 32)
    found = {"penultimate_layer": None, "seek_penultimate_conv_layer": True}
    plus = "gradcam++"
    rows = [  # name, theirs, ours, scaled?, remark
        ("Keras example", keras_example, cam(), False, "same"),
        ("tf-keras-vis Gradcam", vis, cam(), False, "same"),
        ("tf-keras-vis Layercam", partial(vis, "Layercam"), cam(method="layercam"), False, "same"),
        ("xplique GradCAM", xpl, cam(pixels, "bicubic"), False, "same"),
        ("tf-keras-vis GradcamPlusPlus", partial(vis, "GradcamPlusPlus"), cam(method=plus), True,
         "divides alpha by its sum, unlike the paper"),
        ("xplique GradCAMPP", partial(xpl, "GradCAMPP"), cam(pixels, "bicubic", plus), True,
         "the mean of A in place of its sum"),
        ("tf-keras-vis, enlarged", partial(vis, expand_cam=True), cam(pixels), False,
         "corner-aligned: places move"),
        ("tf-keras-vis, no layer named", partial(vis, **found), cam(), False,
         "takes another layer, a shortcut convolution"),
        ("tf-keras-vis, whole model", partial(vis, logits=False), cam(), True,
         "explains the probability"),
        ("xplique, output_layer='logits'", partial(xpl, logits=False, output_layer="logits"),
         cam(pixels, "bicubic"), True, "explains the probability all the same"),
    ]  # fmt: skip
    print("\nLargest difference to our maps, as a share of the largest value")
    print("Models end in logits unless said; (1) after scaling each map to a maximum of 1\n")
    for name, make, expected, scaled, remark in rows:
        try:
            maps = make()(images, classes)
        except ImportError:
            print(f"{name:34} not installed")
            continue
        if scaled:
            maps, expected = each_to_one(maps), each_to_one(expected)
        difference = np.abs(maps - expected).max() / expected.max()
        print(f"{name:34} {difference:8.1e} {'(1)' if scaled else '   '} {remark}")


def peak_of(name, n):
    """MB by which memory grew for one batch: on a GPU TensorFlow's peak, else the process's."""
    run = CONTENDERS[name]()
    run(*batch_of(1))
    images, classes = batch_of(n)
    if tf.config.list_physical_devices("GPU"):
        before = tf.config.experimental.get_memory_info("GPU:0")["current"]
        tf.config.experimental.reset_memory_stats("GPU:0")
        run(images, classes)
        return (tf.config.experimental.get_memory_info("GPU:0")["peak"] - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = resident("VmRSS")
    run(images, classes)
    return resident("VmHWM") - before


def resident(key):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1e3


def memory_table(batches):
    print("\nPeak memory during one batch beyond what was held before: MB (MB per picture)\n")
    print(f"{'':22}" + "".join(f"{n:^18}" for n in batches))
    for name in ("prediction", "ours, gradcam"):
        cells = []
        for n in batches:  # a process each: a peak never comes down again
            command = [sys.executable, __file__, "--peak", name, str(n)]
            peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            cells.append(f"{peak:8.1f} ({peak / n:.3f})".ljust(18))
        print(f"{name:22}" + "".join(cells))


def version_of(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "N"), help="one figure of the table")
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak_of(arguments.peak[0], int(arguments.peak[1])))
        sys.exit()
    warnings.filterwarnings("ignore", "The structure of `inputs`")  # tf-keras-vis gives a list
    tf.get_logger().setLevel("ERROR")
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    print(f"ResNet20v2, {', '.join(gpus) or f'{platform.machine()}, {os.cpu_count()} cores'}")
    packages = ("tensorflow", "keras", "tf-keras-vis", "xplique")
    print(*(f"{name} {version_of(name)}" for name in packages), sep=", ", end="\n\n")
    time_table(arguments.batches, arguments.repeats)
    equality_table()
    memory_table([n for n in arguments.batches if n > 1] + [2 * max(arguments.batches)])
