"""Annotation records that the tests of annotations and of exports share."""

from helpers.annotation.via import NOTHING, Picture, Region

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
GOOD = {"label": "cat", "viewpoint": "front", "truncated": "no", "occluded": "yes",
        "background": "indoor", "image_quality": {"blurred": True}}  # fmt: skip


def rect(x, y, w, h, **attributes):
    return Region({"name": "rect", "x": x, "y": y, "width": w, "height": h}, attributes)


def empty(name):
    return Picture(name, file_attributes=dict(NOTHING))


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def three_pictures():
    """Integer boxes with every attribute, one touching all four borders, one picture empty."""
    return [
        Picture("a.png", [rect(0, 0, 32, 32, **GOOD), rect(5, 3, 6, 18, **GOOD)]),
        Picture("b (1).png", [rect(1, 2, 3, 4, **{**GOOD, "label": "ship"})]),
        empty("c.png"),
    ]
