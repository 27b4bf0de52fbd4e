"""Draw boxes and choose attributes in the notebook; every Submit saves into one VIA CSV.

For Assignment4A: ipywidgets beside the canvas of jupyter-bbox-widget (https://github.com/gereleth/
jupyter-bbox-widget), in JupyterLab 4 and Colab. Boxes snap to the edges of the picture's pixels.
"""

import base64
import os
import time
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from itertools import zip_longest
from pathlib import Path

import cv2
import ipywidgets as widgets
import numpy as np
from traitlets import TraitError

from helpers.annotation import via
from helpers.annotation.checks import check, tidy
from helpers.annotation.via import AnnotationError, Picture, Region
from helpers.environment import in_colab

ENLARGED, SHRUNK = 432, 768  # screen pixels: longer side of small pictures, and of large ones
# The canvas has a list of classes, which is empty here, and an outline around both. JupyterLab
# marks what a restarted kernel does not know any more as disconnected.
STYLE = """<style>
.annotator .classes {display: none} .annotator .wrapper {outline: none}
.annotator .image-measure, .annotator img {width: 100%; image-rendering: pixelated}
.annotator.jupyter-widgets-disconnected > * {display: none !important}
.annotator.jupyter-widgets-disconnected::after {content: "The kernel was restarted. What you \
submitted is saved: run this cell again to go on."}
</style>"""
OTHER_WINDOW = (
    "Not saved: another window has saved this picture meanwhile. Submit again to replace its boxes "
    "by these; Skip, then Back, shows them."
)


def annotate(pictures, schema, path):
    """A widget that shows pictures one at a time, to draw boxes and choose their attributes.

    Nothing is written before the first Submit; each one adds its picture to what `path` then holds,
    so that two windows may share it. If `path` exists, its boxes are shown, and work goes on at the
    first picture without any. What is not touched stays as it is, but for what `checks.tidy` mends.

    Args:
        pictures: dict from file name to uint8 (H, W, 3), RGB, of any size.
        schema: VIA attributes, see `via.read_schema`; those of regions become controls.
        path: the VIA CSV; its boxes are in pixels of the pictures.

    Raises:
        ValueError: unsuitable pictures, no CSV, or one that is damaged or does not fit them.
        OSError: `path` cannot be written.
        ImportError: jupyter-bbox-widget is not installed.
    """
    fits = isinstance(pictures, dict) and all(
        p.dtype == np.uint8 and p.shape[2:] == (3,) and p.size for p in pictures.values()
    )
    if not pictures or not fits:
        raise ValueError("pictures must be a dict {file name: uint8 (H, W, 3)}, RGB, not empty.")
    path = Path(path).resolve()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: name a file in a folder where you may write.")
    if path.suffix != ".csv" or (path.exists() and path.read_bytes().lstrip()[:1] in (b"{", b"[")):
        raise ValueError(f"{path.name} is no CSV, and boxes are saved as CSV: name another file.")
    if in_colab():  # shows widgets that are not its own only if asked to
        from google.colab import output

        output.enable_custom_widget_manager()
    return Annotator(pictures, schema["region"], path)


class Annotator(widgets.HBox):
    """The widget that `annotate` returns.

    `regions` runs parallel to the boxes on the canvas, in pixels of the picture. The form shows
    the attributes of `regions[current]`, the selected or else the last one; `_keep` reads it back.
    """

    def __init__(self, pictures, specs, path):
        self.pictures, self.path, self.names = pictures, path, list(pictures)
        self.saved = self._read() if path.exists() else {}
        self.form = {name: _control(spec) for name, spec in specs.items()}
        self.blank = self._values()
        self.progress, self.status = widgets.HTML(), widgets.HTML(layout={"min_height": "28px"})
        self.back = widgets.Button(description="Back", tooltip="to the previous picture")
        self.back.on_click(lambda _: self._leave(-1))
        rows = [widgets.HTML(STYLE, layout={"display": "none"}), self.progress]
        for name, spec in specs.items():
            about = f"<b>{escape(name)}</b> &ensp; {escape(spec.get('description') or '')}"
            rows += [widgets.HTML(f"<div style='line-height: 1.4'>{about}</div>"), self.form[name]]
        self.panel = widgets.VBox([*rows, self.back, self.status], layout={"flex": "1 1 340px"})
        super().__init__(layout={"flex_flow": "row wrap"})
        self.add_class("annotator")
        todo = (i for i, name in enumerate(self.names) if not self._picture(name).regions)
        self._show(next(todo, 0))

    def __repr__(self):
        return f"Annotator({len(self.names)} pictures, {self.path.name})"

    def _read(self):
        """The pictures of the file by name; AnnotationError if it does not fit the pictures."""
        sizes = {name: picture.shape[1::-1] for name, picture in self.pictures.items()}
        pictures, _ = tidy(via.read_via(self.path), sizes)  # VIA draws a hair over the border
        known = [picture for picture in pictures if picture.filename in sizes]
        if findings := check(pictures) or check(known, sizes=sizes):
            raise AnnotationError(*findings)
        return {picture.filename: picture for picture in pictures}

    def _picture(self, name):
        return self.saved.get(name, Picture(name))

    def _show(self, index, message=""):
        """Display a picture with its saved boxes."""
        self.index, self.name, self.current = index, self.names[index], -1
        self.shown = [r for r in self._picture(self.name).regions if r.shape["name"] == "rect"]
        self.regions = list(self.shown)
        # A new canvas for each picture: what the browser reports late, after Submit, then
        # cannot get into the next picture.
        for canvas in self.children[:-1]:
            canvas.unobserve_all()
            canvas.close()
        self.canvas, self.frame = _canvas(self.pictures[self.name])
        self.canvas.bboxes = [self._framed(region.shape) for region in self.regions]
        self.canvas.observe(self._drawn, "bboxes")
        self.canvas.observe(self._select, "selected_index")
        self.canvas.on_submit(self._submit)
        self.canvas.on_skip(lambda: self._leave(1))
        self.children = [self.canvas, self.panel]
        self._fill({})
        self._select()
        done = sum(bool(self._picture(name).regions) for name in self.names)
        self._say(f"{message} {done} of {len(self.names)} saved in {self.path.name}.")
        self.back.disabled = index == 0

    def _say(self, text):
        self.status.value = escape(text.strip())

    # -- the form ------------------------------------------------------------------------------

    def _values(self):
        return {name: control.value for name, control in self.form.items()}

    def _fill(self, attributes):
        for name, control in self.form.items():
            try:
                control.value = attributes.get(name, self.blank[name])
            except TraitError:  # not an option of the schema
                control.value = self.blank[name]
        self.filled = self._values()

    def _keep(self):
        """Take over what was changed in the form; a value that it cannot show stays."""
        changes = {k: v for k, v in self._values().items() if v != self.filled[k]}
        if 0 <= self.current < len(self.regions):
            region, self.filled = self.regions[self.current], self._values()
            attributes = {**region.attributes, **changes}
            self.regions[self.current] = replace(region, attributes=attributes)

    def _select(self, _=None):
        """Let the form show the box that is selected now."""
        self._keep()
        selected, count = self.canvas.selected_index, len(self.regions)
        self.current = selected if 0 <= selected < count else count - 1
        if self.regions:
            self._fill(self.regions[self.current].attributes)
        which = f", box {self.current + 1} of {count}" if count > 1 else ""
        where = f"picture {self.index + 1} of {len(self.names)}"
        self.progress.value = f"{where}: {escape(self.name)}{which}"

    # -- the canvas ----------------------------------------------------------------------------

    def _framed(self, shape):
        """A box as the canvas has it: in pixels from the corner of the frame."""
        return {**shape, "x": shape["x"] + self.frame, "y": shape["y"] + self.frame, "label": ""}

    def _drawn(self, change):
        """Follow the canvas: it appends, changes or removes boxes, but never reorders them."""
        self._keep()
        old, new, regions = change["old"], change["new"], self.regions
        if len(new) < len(old):  # the ones that stay have not moved
            regions = [r for r, box in zip(regions, old) if box in new][: len(new)]
        # what was chosen before there was any box is meant for the first
        first = not any(map(_has_area, self.regions))
        fresh = Region({}, self._values() if first else self.blank)
        pairs = zip_longest(regions, new, fillvalue=fresh)
        self.regions, self.current = [self._follow(*pair) for pair in pairs], -1
        self._select()

    def _follow(self, region, box):
        """The region with its box from the canvas, cut at the border of the picture."""
        if region.shape and self._framed(region.shape) == box:  # not touched
            return region
        x, y = box["x"] - self.frame, box["y"] - self.frame
        edges = np.round([x, y, x + box["width"], y + box["height"]]).astype(int)
        size = self.pictures[self.name].shape[1::-1]
        x, y, right, bottom = np.clip(edges, 0, [*size, *size]).tolist()
        shape = {"name": "rect", "x": x, "y": y, "width": right - x, "height": bottom - y}
        return replace(region, shape=shape)

    # -- the buttons ---------------------------------------------------------------------------

    def _boxes(self):
        """Without what a click leaves behind, or a drag that has only begun."""
        self._keep()
        return [region for region in self.regions if _has_area(region) or region in self.shown]

    def _leave(self, step):
        lost = f"The changes to {self.name} were not saved." if self._boxes() != self.shown else ""
        self._show(min(self.index + step, len(self.names) - 1), lost)

    def _submit(self):
        boxes, shown = self._boxes(), self._picture(self.name)
        if not boxes and not shown.regions:
            return self._say("Draw a box, let go of the mouse inside the frame; or press Skip.")
        choices = [name for name, control in self.form.items() if hasattr(control, "options")]
        for number, box in enumerate(boxes, 1):
            if unset := [name for name in choices if not box.attributes.get(name)]:
                return self._say(f"Still to choose for box {number}: {', '.join(unset)}.")
        boxes = [replace(box, attributes={**self.blank, **box.attributes}) for box in boxes]
        boxes = list({str(box.shape): box for box in boxes}.values())  # the same box twice is one
        others = [r for r in shown.regions if r.shape["name"] != "rect"]  # say, polygons of VIA
        try:
            with _alone(self.path):
                # another window may have saved since; a file that is gone is written anew
                saved = self._read() if self.path.exists() else self.saved
                if saved.get(self.name, Picture(self.name)) != shown:
                    self.saved = saved
                    return self._say(OTHER_WINDOW)
                saved = {**saved, self.name: replace(shown, regions=others + boxes)}
                via.write_via_csv(list(saved.values()), self.path)
        except (OSError, ValueError) as error:  # a notebook would not show it
            return self._say(f"Not saved: {error}")
        self.saved, last = saved, self.index + 1 == len(self.names)
        self._show(self.index + (not last), "This was the last picture." if last else "")


class Checkboxes(widgets.HBox):
    """Checkboxes with one `value`, VIA's dict of those that are ticked: {"option": True}."""

    def __init__(self, options):
        layout = {"width": "auto", "margin": "2px 20px 2px 2px"}
        boxes = [widgets.Checkbox(description=o[0], indent=False, layout=layout) for o in options]
        self.boxes = {option: box for (_, option), box in zip(options, boxes)}
        super().__init__(boxes, layout={"flex_flow": "row wrap"})

    @property
    def value(self):
        return {option: True for option, box in self.boxes.items() if box.value}

    @value.setter
    def value(self, ticks):
        for option, box in self.boxes.items():
            box.value = isinstance(ticks, dict) and bool(ticks.get(option))


def _control(spec):
    """A control for one attribute; its `value` is as VIA stores it."""
    options = [(text or option, option) for option, text in (spec.get("options") or {}).items()]
    if spec["type"] == "text" or not options:
        return widgets.Text()
    if spec["type"] == "checkbox":
        return Checkboxes(options)
    if spec["type"] == "radio":
        return widgets.ToggleButtons(options=options, value=None, style={"button_width": "auto"})
    return widgets.Dropdown(options=[("choose …", ""), *options])


def _has_area(region):
    return region.shape["width"] > 0 and region.shape["height"] > 0


def _canvas(picture):
    """A picture on the canvas, in a frame in which a drag may begin and end; the frame's pixels."""
    try:
        from jupyter_bbox_widget import BBoxWidget
    except ModuleNotFoundError:
        message = "To draw boxes, run `%pip install jupyter-bbox-widget`, then this cell again."
        raise ImportError(message) from None
    frame = max(*picture.shape[:2], 16) // 16
    framed = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    framed = cv2.copyMakeBorder(framed, *[frame] * 4, cv2.BORDER_CONSTANT, value=(200, 200, 200))
    longest = max(framed.shape[:2])
    # enlarged by a whole number, so that all pixels are equally large; a photograph is shrunk
    scale = max(ENLARGED // longest, 1) if longest <= SHRUNK else SHRUNK / longest
    kind = "png" if longest <= SHRUNK else "jpeg"
    # the picture travels inside its own address: Colab may drop binary buffers
    content = base64.b64encode(cv2.imencode(f".{kind}", framed)[1]).decode()
    canvas = BBoxWidget(image=f"data:image/{kind};base64,{content}", colors=["#ff2d95"])
    canvas.layout.width = f"{round(framed.shape[1] * scale) + 10}px"
    return canvas, frame


@contextmanager
def _alone(path):
    """Wait while another window saves; whoever takes ten seconds has been killed."""
    lock = path.with_name(f".{path.name}.lock")
    for _ in range(500):
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError:
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
