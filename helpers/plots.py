"""Figures that the notebooks draw more than once, or that would hide the idea in a cell."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

STYLE = {
    "figure.dpi": 80,
    "figure.facecolor": "white",  # readable on GitHub's dark page too
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "image.interpolation": "nearest",
    "text.parse_math": False,  # a "$" in a file name or a label is a "$"
}
# Colors that color-blind readers tell apart (Okabe and Ito 2008), dashes and markers of recipes.
LOOKS = {
    "assignment": ("black", (0, (1, 1.2)), "o"), "reproduction": ("#cc79a7", (0, (5, 1.5)), "s"),
    "course": ("#0072b2", "-", "^"), "modern": ("#d55e00", "-", "D"),
    "short": ("#009e73", (0, (4, 1, 1, 1)), "v"), "taught": ("#6a3d9a", (0, (6, 1)), "<"),
}  # fmt: skip


def use_style() -> None:
    """Set the course's style for every figure from here on."""
    plt.rcParams.update(STYLE)


def show(figure, alt: str, photos: bool = False, place=None) -> None:
    """Show a figure at a place with a sentence for those who cannot see it, and close it.

    JPEG, a fifth as large, if it holds `photos`; else PNG in 256 colors, twice as fine as a page.
    """
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi * (1 if photos else 2))
    image, kind = Image.open(drawn).convert("RGB"), "image/jpeg" if photos else "image/png"
    if photos:
        image.save(file, "jpeg", quality=72, subsampling="4:2:2", optimize=True)
    else:
        image.quantize(dither=Image.Dither.NONE).save(file, "png", optimize=True)
    data = {kind: base64.b64encode(file.getvalue()).decode(), "text/plain": alt}
    width = round(figure.get_figwidth() * figure.dpi)
    (place or display)(data, metadata={kind: {"alt": alt, "width": width}}, raw=True)
    plt.close(figure)


def pictures(
    images, titles=(), columns=10, group=1, boxes=(), size=0.8, heading="", bar="", rows=(),
    wrong=(),
):  # fmt: skip
    """Draw pictures row by row, all on one axis, in inches: an axis for each would take seconds.

    Args:
        images: RGB pictures, or maps, each from 0 to its own maximum in the colors of `bar`.
        titles, rows: texts above the pictures, "" for none, and at the left of the rows.
        columns: pictures per row; neighbours in a `group` of so many stand close together.
        boxes: x, y, w, h in pixels, or None, one per picture; or {label: boxes}, two to compare.
        size: longer side of a picture in inches; multiples of 0.8 suit 32 pixels.
        heading, bar: texts of the figure, if no boxes are compared, and of a color bar, 0 to 1.
        wrong: bool, one per picture: a red frame and a cross before the title.
    """
    titles, compared = titles or [""] * len(images), isinstance(boxes, dict)
    columns = min(columns, max(len(images), 1))
    lines = [title.count("\n") + bool(title) for title in titles] or [0]  # [0]: a heading alone
    lines = [max(lines[start : start + columns]) for start in range(0, len(lines), columns)]
    left, above = 0.1 + 0.08 * max(map(len, rows), default=0), 0.3 if heading or compared else 0.02
    gap = 0.14 if group > 1 else 0.0
    lefts = _whole([left + i * (size + 0.06) + i // group * gap for i in range(columns)])
    tops = _whole(above + np.cumsum([0.15 * count + 0.1 + size for count in lines]) - size)
    width, height = _whole([lefts[-1] + size + 0.1 + (0.75 if bar else 0), tops[-1] + size + 0.08])
    width = max(width, 0.2 + 0.07 * len(heading))
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()

    def frame(x, y, w, h, color, lw, style="-"):
        return axis.add_patch(plt.Rectangle((x, y), w, h, fill=False, ec=color, lw=lw, ls=style))

    sets = boxes if compared else {"": boxes}
    looks = (("tab:orange", "-"), ("cyan", "--")) if compared else [("white", "-")]
    thick, drawn = 0.9 if size < 1 else 1.4, {}
    for i, image in enumerate(images):
        pixel = size / max(np.shape(image)[:2])
        h, w = np.multiply(np.shape(image)[:2], pixel)
        x, y = lefts[i % columns] + (size - w) / 2, tops[i // columns] + (size - h) / 2
        axis.imshow(image, cmap="inferno", vmin=0, extent=(x, x + w, y + h, y), aspect="auto")
        title = axis.text(x + w / 2, y - 0.04, titles[i], ha="center", va="bottom", fontsize=8)
        if len(wrong) and wrong[i]:
            title.set(text=f"✗ {titles[i]}", color="tab:red")
            frame(x, y, w, h, "tab:red", 2)
        for (label, each), (color, style) in zip(sets.items(), looks):
            if len(each) and each[i] is not None:
                box = np.add(np.multiply(each[i], pixel), (x, y, 0, 0))
                frame(*box, "black", 2.6 * thick)  # beneath, to show on any picture
                drawn[label] = frame(*box, color, thick, style)
    for label, top in zip(rows, tops):
        axis.text(left - 0.06, top + size / 2, label, ha="right", va="center", fontsize=9)
    axis.text(0.1, 0.08, heading, va="top")
    if compared:
        figure.legend(drawn.values(), drawn, ncols=2, loc="upper left")
    if bar:
        length = min(2.2, height - 0.6)
        place = (width - 0.7, height - above - 0.2 - length, 0.1, length)
        beside = figure.add_axes(np.divide(place, (width, height, width, height)))
        figure.colorbar(plt.cm.ScalarMappable(cmap="inferno"), cax=beside, ticks=[0, 0.5, 1])
        beside.set_ylabel(bar, fontsize=8)
        beside.tick_params(labelsize=8)
        beside.grid(False)
    return figure


def _whole(inches):
    """To whole pixels of the screen: between them, a picture's pixels would differ in size."""
    return np.round(np.multiply(inches, STYLE["figure.dpi"])) / STYLE["figure.dpi"]


def curves(logs):
    """The figure of accuracy and loss per epoch of the runs in {name: log of `runs.read_log`}."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for axis, key, title in zip(axes, ("acc", "loss"), ("Accuracy, share of 1", "Loss, log scale")):
        ends = []
        for name, log in logs.items():
            color, dash, marker = LOOKS.get(name, ("#56b4e9", "-", "P"))
            epochs, every = log["epoch"], max(len(log) // 5, 1)
            axis.plot(epochs, log[key], ls=dash, lw=0.8, alpha=0.5, color=color)
            axis.plot(epochs, log["val_" + key], ls=dash, lw=1.8, color=color, marker=marker,
                      ms=5, markevery=(every - 1, every))  # fmt: skip
            ends.append((epochs.iloc[-1], log["val_" + key].iloc[-1], name, color))
        axis.set(xlabel="epoch", ylabel=title)
        axis.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if key == "loss":
            axis.set_yscale("log")
            losses = 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3
            axis.yaxis.set_major_locator(plt.FixedLocator(losses))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
        _name_lines(axis, ends)
    lines = [plt.Line2D([], [], color="black", lw=lw, alpha=a) for lw, a in ((1.8, 1), (0.8, 0.5))]
    names = ["validation", "training"]
    figure.legend(lines, names, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def live_curves():
    """A place below a cell that `curves` fills anew after every epoch: returns draw(logs)."""
    place = display({"text/plain": "(curves after an epoch)"}, raw=True, display_id=True)
    alt = "Accuracy and loss of the epochs so far."
    return lambda logs: show(curves(logs), alt, place=place.update)


def _name_lines(axis, ends):
    """Write every line's name (x, y, name, color) at its end, a line of text apart."""
    axis.set_ylim(axis.get_ylim())  # from here on they stay
    shares = axis.transData + axis.transAxes.inverted()  # of the axis' height
    for last in {end[0] for end in ends}:  # runs of one length
        same = sorted((end for end in ends if end[0] == last), key=lambda end: end[1])
        heights = [shares.transform(end[:2])[1] for end in same]
        apart = 0.055 * np.arange(len(same))
        places = np.maximum.accumulate(heights - apart) + apart
        x = shares.transform((last, 0))[0] + 0.01
        x, lift = (1.01, 0) if x > 0.95 else (x, 0.025)  # a shorter run's name stands inside
        for (*_, name, color), place in zip(same, places - np.mean(places - heights)):
            axis.text(x, place + lift, name, color=color, va="center", transform=axis.transAxes,
                      bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0})  # fmt: skip


def residual_network(classes):
    """Draw a residual block of ResNet20v2, and the network as a chain of such blocks."""
    block = [
        "x", "normalize\nReLU", "convolution\n1x1, narrow", "normalize\nReLU",
        "convolution\n3x3, narrow", "normalize\nReLU", "convolution\n1x1, wide", "+", "x + f(x)",
    ]  # fmt: skip
    network = [
        "pixels", "stem\n3x3", "stage 1\n2 blocks", "stage 2\n2 blocks", "stage 3\n2 blocks",
        "features", "mean over\nplaces", "logits", "softmax",
    ]  # fmt: skip
    colors = dict.fromkeys(("convolution", "stem", "logits"), "#cfe2f3")  # blue, sand, green
    colors |= {"stage": "#fff2cc"} | dict.fromkeys(("normalize", "features"), "#d9ead3")
    figure = plt.figure(figsize=(10, 4.2))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-0.55, 8.55), ylim=(-0.8, 4.1))
    axis.set_axis_off()
    arrow = {"arrowprops": {"arrowstyle": "-|>", "fc": "black"}}
    wide, narrow = "16x16x128", "16x16x64"
    block_shapes = [wide, wide, narrow, narrow, narrow, narrow, wide, "", wide]
    shapes = "32x32x3 32x32x16 32x32x64 16x16x128 8x8x256 8x8x256 256".split() + [classes] * 2
    for y, chain, sizes in ((2.1, block, block_shapes), (0, network, shapes)):
        for x, (text, shape) in enumerate(zip(chain, sizes)):
            color = colors.get(text.split()[0], "white")
            axis.add_patch(plt.Rectangle((x - 0.4, y - 0.35), 0.8, 0.7, fc=color, ec="black"))
            axis.text(x, y, text, ha="center", va="center", fontsize=8.5)
            axis.text(x, y - 0.45, shape, ha="center", va="top", fontsize=8.5)
            if x:
                axis.annotate("", (x - 0.4, y), (x - 0.6, y), **arrow)
    axis.plot([0, 0, 7], [2.45, 3.1, 3.1], color="black", lw=1)
    axis.annotate("", (7, 2.45), (7, 3.1), **arrow)
    shortcut = "the shortcut: x as it is (in a stage's first block a 1x1 convolution: a new shape)"
    axis.text(3.5, 3.15, shortcut, ha="center", va="bottom", fontsize=8.5)
    for y, what in ((3.7, "A residual block, the second of stage 2"), (0.65, "ResNet20v2")):
        axis.text(-0.4, y, f"{what}, and the shape after each part", weight="bold")
    return figure


def windows():
    """Draw along one axis which pixels a place sees after convolutions, one of stride 2."""
    layers = [  # name, size of the kernel, distance between places in pixels, pixels seen by one
        ("pixels", 1, 1, "1 pixel"), ("3x3 convolution", 3, 1, "3 pixels"),
        ("1x1, stride 2", 1, 2, "3 pixels"), ("3x3 convolution", 3, 2, "7 pixels"),
    ]  # fmt: skip
    figure = plt.figure(figsize=(9, 2.8))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-6.5, 22), ylim=(-0.6, 3.7))
    axis.set_axis_off()
    seen = {8}
    for y, (name, kernel, distance, pixels) in reversed(list(enumerate(layers))):
        for x in range(0, 17, distance):
            color = "#d55e00" if x in seen else "white"
            axis.add_patch(plt.Rectangle((x - 0.35, y - 0.22), 0.7, 0.44, fc=color, ec="black"))
        axis.text(-1, y, name, ha="right", va="center")
        axis.text(17, y, f"{pixels} wide", va="center")
        steps = layers[y - 1][2] * np.arange(-(kernel // 2), kernel // 2 + 1)
        lines = [(x, x + step) for x in seen for step in steps if y]
        for x, below in lines:
            axis.plot([below, x], [y - 0.78, y - 0.22], color="#d55e00", lw=1)
        seen = {below for _, below in lines}
    return figure


def confusion_and_accuracy(matrix, class_names, title):
    """A confusion matrix of counts (rows true, columns predicted); beside it accuracy per class."""
    looks = {"figsize": (9.6, 5.6), "width_ratios": (2.4, 1), "layout": "constrained"}
    figure, (left, right) = plt.subplots(1, 2, sharey=True, **looks)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    left.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if shares[row, column] > 0.5 else "black"
        left.text(column, row, count, ha="center", va="center", fontsize=8, color=color)
    left.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    left.set_yticks(range(len(class_names)), class_names)
    left.set(title=title, xlabel="predicted", ylabel="true")
    bars = right.barh(range(len(matrix)), 100 * shares.diagonal(), color=plt.get_cmap("Blues")(0.7))
    right.bar_label(bars, fmt="{:.1f}", padding=3)
    right.set(title="Accuracy per class", xlim=(0, 120), xticks=(0, 50, 100), xlabel="percent")
    for axis in (left, right):
        axis.grid(False)
    return figure
