"""The page "Ask it where it looked": python -m tools.ask [FOLDER] writes it; tools.site calls it.

The page is plain files and runs the recorded network in the browser, without a server's help:
site/ask/ as it stands, the weights as one file of numbers, and a few pictures to begin with.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from helpers.files import RECORDED, ROOT
from helpers.training import data, runs

RECIPE = "modern"
TAKEN = 2  # test pictures of each class of CIFAR-10, where it is at hand


def numbers(network) -> np.ndarray:
    """All weights in the order in which site/ask/network.js uses them: float32 (n,).

    A batch normalization becomes a factor and an offset per channel. A convolution's kernel comes
    in strips of four filters, (filters / 4, inputs, 4), then its bias.
    """

    def norm(name):
        layer = network.get_layer(f"{name}_norm")
        gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in layer.get_weights())
        factor = gamma / np.sqrt(variance + layer.epsilon)
        return [factor, beta - mean * factor]

    def conv(name):
        kernel, bias = network.get_layer(name).get_weights()
        strips = kernel.reshape(-1, len(bias) // 4, 4).transpose(1, 0, 2)
        return [strips, bias]

    scaling = network.get_layer("centered")
    parts = [np.full(3, scaling.scale), scaling.offset, *conv("stem_conv"), *norm("stem")]
    blocks = {layer.name.removesuffix("_add") for layer in network.layers if "_add" in layer.name}
    names = {layer.name for layer in network.layers}
    for block in sorted(blocks):
        for step in "abc":
            if f"{block}_{step}_norm" in names:  # the first block's input is normalized already
                parts += norm(f"{block}_{step}")
            parts += conv(f"{block}_{step}_conv")
        if f"{block}_shortcut" in names:
            parts += conv(f"{block}_shortcut")
    parts += [*norm("features"), *network.get_layer("logits").get_weights()]
    return np.concatenate([np.ravel(part) for part in parts]).astype("<f4")


def examples() -> tuple[np.ndarray, list[str]]:
    """Pictures, uint8 (n, 32, 32, 3), and what each shows.

    Drawn ones, and before them test pictures of CIFAR-10 where it is on this machine.
    """
    pictures, labels = [], []
    sets = [("drawn {}", data.synthetic(train=100, test=10), 1)]
    if data.on_disk():
        sets.insert(0, ("{}", data.load("cifar10"), TAKEN))
    for label, dataset, count in sets:
        for c, name in enumerate(dataset.class_names):
            chosen = np.flatnonzero(dataset.y_test == c)[:count]
            pictures += list(dataset.x_test[chosen])
            labels += [label.format(name) for _ in chosen]
    return np.array(pictures, np.uint8), labels


def write(folder: Path) -> None:
    """Write the page into a folder, which is made or filled anew."""
    shutil.copytree(ROOT / "site/ask", folder, dirs_exist_ok=True)
    run = runs.open_run(RECORDED / RECIPE)
    (folder / "network.bin").write_bytes(numbers(run.network()).tobytes())
    pictures, labels = examples()
    (folder / "pictures.bin").write_bytes(pictures.tobytes())
    about = {
        "classes": data.CLASS_NAMES,
        "pictures": labels,
        "recipe": RECIPE,
        "epochs": run.info["epochs"],
        "test_acc": run.info["scores"]["test_acc"],
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build/site/ask")
