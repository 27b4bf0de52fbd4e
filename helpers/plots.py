"""Figures that are drawn more than once, in one style."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib_inline.backend_inline import set_matplotlib_formats

STYLE = {
    "figure.dpi": 80,
    "savefig.dpi": 80,
    "figure.facecolor": "white",  # readable on GitHub's dark page too
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "image.interpolation": "nearest",
    "image.cmap": "viridis",
}
COLORS = {
    "assignment": "tab:gray", "course": "tab:blue", "reproduction": "tab:purple",
    "modern": "tab:orange", "short": "tab:red", "quick": "tab:green",
}  # fmt: skip


def use_style() -> None:
    """Set the course's style for every figure from here on."""
    plt.rcParams.update(STYLE)
    # Pictures dominate: as PNG the stored notebook would pass a megabyte.
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 72, "subsampling": "4:2:2"})


def picture(axis, image, title="", box=None, wrong=False) -> None:
    """Show one picture (H, W, 3) or map (H, W) without axes, with a box (x, y, w, h) in pixels.

    A wrong one gets a red frame, and a cross before its title.
    """
    axis.imshow(image, cmap="inferno")
    axis.set_axis_off()
    axis.set_title(f"✗ {title}" if wrong else title, fontsize=8, pad=3)
    if wrong:
        axis.title.set_color("tab:red")
        frame = Rectangle((0, 0), 1, 1, transform=axis.transAxes, clip_on=False)
        frame.set(fill=False, ec="tab:red", lw=2)
        axis.add_patch(frame)
    if box is not None:
        outline(axis, box)


def outline(axis, box, color="white", style="-", width=1.4):
    """Draw a box (x, y, w, h) in pixels, black beneath `color` to show on any picture.

    Returns the upper of the two lines, for a legend.
    """
    x, y, w, h = box  # pixel edges; imshow puts the first pixel's centre at 0
    for edge, lw, line in (("black", 2.2 * width, "-"), (color, width, style)):
        drawn = Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=edge, lw=lw, ls=line)
        axis.add_patch(drawn).set_clip_on(False)  # whole also where it touches the border
    return drawn


def pictures(
    images,
    titles=None,
    columns=10,
    group=1,
    boxes=None,
    size=0.8,
    heading="",
    bar="",
    rows=(),
    wrong=None,
):
    """Draw pictures row by row.

    Args:
        images: RGB pictures, or maps, each of its own scale and in the colours of `bar`.
        titles: one per picture, "" for none.
        columns: pictures per row.
        group: so many neighbours stand close together.
        boxes: x, y, w, h in pixels, one per picture.
        size: width of a picture, inches; 0.8 shows every pixel of 32 as two by two of the
            screen's, and whole multiples of it keep all pixels equally large.
        heading: of the whole figure.
        bar: label of a colour bar for heat maps scaled to 0..1; none if empty.
        rows: label at the left of each row.
        wrong: bool, one per picture: which to mark as wrong.

    Returns:
        The figure; `figure.axes` holds the pictures in order.
    """
    titles = titles or [""] * len(images)
    boxes = [None] * len(images) if boxes is None else boxes
    wrong = [False] * len(images) if wrong is None else wrong
    lines = [
        max(len(title.split("\n")) if title else 0 for title in titles[start : start + columns])
        for start in range(0, len(images), columns)
    ] or [0]  # no pictures: a heading alone
    left = 0.1 + max((0.08 * len(label) for label in rows), default=0)
    lefts = [
        i * (size + 0.06) + i // group * (0.14 if group > 1 else 0.0) + left for i in range(columns)
    ]
    width = lefts[-1] + size + 0.1 + (0.75 if bar else 0)
    tops = np.cumsum([0.15 * count + 0.1 + size for count in lines]) + (0.3 if heading else 0.02)
    height = tops[-1] + 0.08
    # Placed by hand: layout engines take seconds for a hundred axes.
    figure = plt.figure(figsize=(width, height))
    for i, image in enumerate(images):
        place = (lefts[i % columns], height - tops[i // columns], size, size)
        axis = figure.add_axes(np.divide(place, (width, height, width, height)))
        picture(axis, image, titles[i], boxes[i], wrong[i])
    for label, top in zip(rows, tops):
        middle = (left - 0.06) / width, 1 - (top - size / 2) / height
        figure.text(*middle, label, ha="right", va="center", fontsize=9)
    if heading:
        figure.text(0.1 / width, 1 - 0.08 / height, heading, ha="left", va="top", fontsize=10)
    if bar:
        length = min(2.2, height - 0.6)
        place = (width - 0.7, height - (0.3 if heading else 0.02) - 0.2 - length, 0.1, length)
        axis = figure.add_axes(np.divide(place, (width, height, width, height)))
        figure.colorbar(ScalarMappable(cmap="inferno"), cax=axis, ticks=[0, 0.5, 1])
        axis.set_ylabel(bar, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(False)
    return figure


def curves(logs):
    """Accuracy and loss per epoch of one or several runs.

    Args:
        logs: {name: rows of a training_log.csv, as `runs.read_log` gives them}.

    Returns:
        The figure.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axis, key, title in zip(axes, ("acc", "loss"), ("Accuracy, share of 1", "Loss")):
        for name, rows in logs.items():
            epochs, color = [row["epoch"] for row in rows], COLORS.get(name)
            for part, style in (("", ":"), ("val_", ".-")):
                label = f"{name}, {'validation' if part else 'training'}"
                values = [row[part + key] for row in rows]
                axis.plot(epochs, values, style, ms=3, color=color, label=label)
        axis.set(xlabel="epoch", ylabel=title)
        axis.legend(fontsize=8, ncols=1 + (len(logs) > 2))
    axes[0].set_ylim(top=1)
    axes[1].set_ylim(0, min(3, axes[1].get_ylim()[1]))  # a first epoch can be far off
    return figure


def residual_network():
    """Draw a residual block of ResNet20v2, and the network as a chain of such blocks."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 4.2), height_ratios=(3, 2))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, hspace=0.02)

    def box(axis, x, text, color, y=0.5, width=1.0, height=0.6):
        place = (x - width / 2, y - height / 2)
        axis.add_patch(Rectangle(place, width, height, fc=color, ec="black", lw=1))
        axis.text(x, y, text, ha="center", va="center", fontsize=8.5)

    def arrow(axis, start, end):
        style = {"arrowstyle": "-|>", "mutation_scale": 11, "color": "black"}
        axis.add_patch(FancyArrowPatch(start, end, **style))

    blue, green, sand = "#cfe2f3", "#d9ead3", "#fff2cc"
    above.text(0.0, 1.5, "A residual block", fontsize=10, weight="bold")
    above.text(0.05, 0.5, "x", ha="center", va="center", fontsize=12)
    for i, (size, width) in enumerate((("1x1", "narrow"), ("3x3", "narrow"), ("1x1", "wide"))):
        x = 1.2 + 2.6 * i
        box(above, x, "normalise\nReLU", green)
        box(above, x + 1.2, f"convolution\n{size}, {width}", blue)
        arrow(above, (x - (1.05 if i == 0 else 0.9), 0.5), (x - 0.5, 0.5))
        arrow(above, (x + 0.5, 0.5), (x + 0.7, 0.5))
    above.text(8.6, 0.5, "+", ha="center", va="center", fontsize=15)
    above.add_patch(plt.Circle((8.6, 0.5), 0.2, fill=False))
    arrow(above, (8.1, 0.5), (8.4, 0.5))
    arrow(above, (8.8, 0.5), (9.3, 0.5))
    above.text(9.7, 0.5, "x + f(x)", ha="center", va="center", fontsize=11)
    above.plot([0.3, 0.3, 8.6], [0.5, 1.2, 1.2], color="black", lw=1)
    arrow(above, (8.6, 1.2), (8.6, 0.7))
    shortcut = "the shortcut: x as it is (in a stage's first block a 1x1 convolution: a new shape)"
    above.text(4.5, 1.26, shortcut, ha="center", va="bottom", fontsize=8.5)
    parts = [
        ("pixels", "32x32x3", "white"), ("stem\n3x3", "32x32x16", blue),
        ("stage 1\n2 blocks", "32x32x64", sand), ("stage 2\n2 blocks", "16x16x128", sand),
        ("stage 3\n2 blocks", "8x8x256", sand), ("features", "8x8x256", green),
        ("mean over\nplaces", "256", "white"), ("logits", "10", blue),
        ("softmax", "10", "white"),
    ]  # fmt: skip
    below.text(0.0, 1.15, "ResNet20v2, and the shape after each part", fontsize=10, weight="bold")
    for i, (text, shape, color) in enumerate(parts):
        x = 0.55 + 1.14 * i
        box(below, x, text, color, y=0.6, width=0.9, height=0.5)
        below.text(x, 0.25, shape, ha="center", va="top", fontsize=8.5)
        if i:
            arrow(below, (x - 0.69, 0.6), (x - 0.45, 0.6))
    for axis, top in ((above, 1.7), (below, 1.3)):
        axis.set(xlim=(-0.1, 10.3), ylim=(0, top))
        axis.set_axis_off()
    return figure


def confusion(axis, matrix, class_names) -> None:
    """Draw a confusion matrix: rows are true classes, columns predicted ones, entries counts."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, count, ha="center", va="center", fontsize=8, color=color)
    axis.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.grid(False)


def confusion_and_accuracy(matrix, class_names, title):
    """Draw a confusion matrix of counts and, at its right, the accuracy per class.

    Returns the figure.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 5.6), width_ratios=(2.4, 1), sharey=True, layout="constrained"
    )
    confusion(left, matrix, class_names)
    left.set_title(title)
    shares = 100 * matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    bars = right.barh(range(len(matrix)), shares, color=plt.get_cmap("Blues")(0.7))
    right.bar_label(bars, [f"{share:.1f}" for share in shares], padding=3)
    right.set(title="Accuracy per class", xlim=(0, 120), xticks=(0, 50, 100), xlabel="percent")
    right.grid(False)
    return figure
