"""Figures that are drawn more than once, in one style."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle
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


def use_style(quality=62) -> None:
    """Set the course's style for every figure from here on; `quality` is that of JPEG."""
    plt.rcParams.update(STYLE)
    # Pictures dominate: as PNG the stored notebook would pass a megabyte.
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})


def picture(axis, image, title="", box=None, title_color="black", pixels=False) -> None:
    """Show one picture without axes, with a box (x, y, w, h) in pixels if given.

    `pixels` shows every pixel as a square; else they are smoothed.
    """
    axis.imshow(image, interpolation="nearest" if pixels else "bicubic")
    axis.set_axis_off()
    axis.set_title(title, fontsize=8, color=title_color, pad=3)
    if box is not None:
        outline(axis, box)


def outline(axis, box, color="white", style="-"):
    """Draw a box (x, y, w, h) in pixels, black beneath `color` to show on any picture.

    Returns the upper of the two lines, for a legend.
    """
    x, y, w, h = box  # pixel edges; imshow puts the first pixel's centre at 0
    for edge, width, line in (("black", 2.6, "-"), (color, 1.3, style)):
        drawn = Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=edge, lw=width, ls=line)
        axis.add_patch(drawn).set_clip_on(False)  # whole also where it touches the border
    return drawn


def pictures(
    images,
    titles=None,
    columns=10,
    group=1,
    boxes=None,
    title_colors=None,
    size=0.85,
    heading="",
    bar="",
    pixels=False,
    rows=None,
):
    """Draw pictures row by row.

    Args:
        images: RGB pictures.
        titles: one per picture, "" for none.
        columns: pictures per row.
        group: so many neighbours stand close together.
        boxes: x, y, w, h in pixels, one per picture.
        title_colors: one per picture.
        size: width of a picture, inches.
        heading: of the whole figure.
        bar: label of a colour bar for heat maps scaled to 0..1; none if empty.
        pixels: show every pixel as a square.
        rows: labels left of the rows.

    Returns:
        The figure; `figure.axes` holds the pictures in order.
    """
    titles = titles or [""] * len(images)
    colors = title_colors or ["black"] * len(images)
    boxes = [None] * len(images) if boxes is None else boxes
    lines = [
        max(len(title.split("\n")) if title else 0 for title in titles[start : start + columns])
        for start in range(0, len(images), columns)
    ]
    start = 0.8 if rows else 0.1
    lefts = [
        i * (size + 0.06) + i // group * (0.14 if group > 1 else 0.0) + start
        for i in range(columns)
    ]
    width = lefts[-1] + size + 0.1 + (0.75 if bar else 0)
    tops = np.cumsum([0.14 * count + 0.1 + size for count in lines]) + (0.3 if heading else 0.02)
    height = tops[-1] + 0.08
    # Placed by hand: layout engines take seconds for a hundred axes.
    figure = plt.figure(figsize=(width, height))
    for i, image in enumerate(images):
        place = (lefts[i % columns], height - tops[i // columns], size, size)
        axis = figure.add_axes(np.divide(place, (width, height, width, height)))
        picture(axis, image, titles[i], boxes[i], colors[i], pixels)
    for i, label in enumerate(rows or []):
        place = 0.1 / width, 1 - (tops[i] - size / 2) / height
        figure.text(*place, label, ha="left", va="center", fontsize=9)
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
