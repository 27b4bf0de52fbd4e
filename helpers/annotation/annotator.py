"""ipywidgets beside the canvas of https://github.com/gereleth/jupyter-bbox-widget."""

import base64
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from html import escape
from importlib import import_module
from pathlib import Path

import cv2
import ipywidgets as widgets
import numpy as np
from traitlets import TraitError

from helpers.annotation import checks, via
from helpers.environment import in_colab

# JupyterLab marks what a restarted kernel does not know any more as disconnected.
STYLE = """<style>
.annotator .classes {display: none}
.annotator .image-measure, .annotator img {width: 100%; image-rendering: pixelated}
.annotator.jupyter-widgets-disconnected > * {display: none !important}
.annotator.jupyter-widgets-disconnected::after {content: "The kernel was restarted. What you \
drew is saved: run this cell again to go on."}
</style>"""


def annotate(pictures, schema, path, sizes=None):
    """A widget to draw boxes, picture by picture; each is saved once its attributes are chosen.

    `pictures` is {file name: uint8 (H, W, 3)}, RGB; `schema` as of `via.read_schema`; `path` a VIA
    CSV, new or to go on with, in pixels of the originals: `sizes` {file name: (width, height)}
    if `pictures` are reduced. ValueError for what does not fit; OSError.
    """
    if not pictures or any(p.dtype != np.uint8 or p.shape[2:] != (3,) for p in pictures.values()):
        raise ValueError("pictures must be a dict {file name: uint8 (H, W, 3)}, RGB, not empty.")
    path = Path(path).resolve()
    if not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: name a file in a folder where you may write.")
    if path.suffix != ".csv" or (path.exists() and path.read_bytes().lstrip()[:1] in (b"{", b"[")):
        raise ValueError(f"{path.name} is no CSV, and boxes are saved as CSV: name another file.")
    if in_colab():  # shows widgets that are not its own only if asked to
        import_module("google.colab.output").enable_custom_widget_manager()
    sizes = sizes or {name: picture.shape[1::-1] for name, picture in pictures.items()}
    return Annotator(pictures, schema["region"], path, sizes)


class Annotator(widgets.HBox):
    """The canvas shows `regions`, the form `regions[current]`; the file holds those in `shown`."""

    def __init__(self, pictures, specs, path, sizes):
        self.pictures, self.names, self.sizes = pictures, list(pictures), sizes
        self.path, self.saved = path, {}
        self.saved = self._read()
        self.form = {name: _control(spec) for name, spec in specs.items()}
        self.choices = [name for name, control in self.form.items() if hasattr(control, "options")]
        self.blank = self._values()
        self.progress, self.status = widgets.HTML(), widgets.HTML()
        self.back = widgets.Button(description="Back")
        self.back.on_click(lambda _: self._leave(-1))
        self.nothing = widgets.Button(description="Nothing to draw")
        self.nothing.on_click(lambda _: self._submit(via.NOTHING))
        rows = [widgets.HTML(STYLE, layout={"display": "none"}), self.progress]
        for name, spec in specs.items():
            about = f"<b>{escape(name)}</b> &ensp; {escape(spec.get('description') or '')}"
            rows += [widgets.HTML(about), self.form[name]]
        rows += [widgets.HBox([self.back, self.nothing]), self.status]
        self.panel = widgets.VBox(rows, layout={"flex": "1 1 340px"})
        super().__init__(layout={"flex_flow": "row wrap"})
        self.add_class("annotator")
        todo = [i for i, name in enumerate(self.names) if not self._picture(name).seen]
        self._show(min(todo, default=0))
        for control in self.form.values():
            for part in getattr(control, "children", [control]):
                part.observe(lambda _: self.filled is None or self._save(), "value")

    def __repr__(self):
        return f"Annotator({len(self.names)} pictures, {self.path.name})"

    def _read(self):
        """The pictures of the file by name; AnnotationError if it does not fit the pictures."""
        if not self.path.exists():  # a file that is gone is written anew
            return self.saved
        pictures, _ = checks.tidy(via.read_via(self.path), self.sizes)  # VIA draws past the border
        known = [picture for picture in pictures if picture.filename in self.sizes]
        if findings := checks.check(pictures) or checks.check(known, sizes=self.sizes):
            raise via.AnnotationError(*findings)
        return {picture.filename: picture for picture in pictures}

    def _picture(self, name):
        return self.saved.get(name, via.Picture(name))

    def _show(self, index, message=""):
        self.index = min(max(index, 0), len(self.names) - 1)
        self.name = self.names[self.index]
        self.shown = [r for r in self._picture(self.name).regions if _is_box(r)]
        self.regions, self.current = list(self.shown), -1
        for canvas in self.children[:-1]:  # what the browser reports late goes to no other picture
            canvas.close()
        picture = self.pictures[self.name]
        self.canvas, self.frame = _canvas(picture)
        self.scale = np.divide(picture.shape[1::-1], self.sizes[self.name])
        self.canvas.bboxes = [self._framed(region.shape) for region in self.regions]
        self.canvas.observe(self._drawn, "bboxes")
        self.canvas.observe(self._select, "selected_index")
        self.canvas.on_submit(self._submit)
        self.canvas.on_skip(lambda: self._leave(1))
        self.children = [self.canvas, self.panel]
        self._fill({})
        self._select()
        self._report(message)

    def _report(self, message=""):
        message += " Nothing to draw here." * self._picture(self.name).nothing
        seen = [picture for picture in map(self._picture, self.names) if picture.seen]
        empty = sum(picture.nothing for picture in seen)
        note = f", {empty} with nothing to draw" * bool(empty)
        self._say(f"{message} {len(seen)} of {len(self.names)} saved in {self.path.name}{note}.")

    def _say(self, text):
        self.status.value = escape(text.strip())

    def _values(self):
        return {name: control.value for name, control in self.form.items()}

    def _fill(self, attributes):
        self.filled = None  # until all are set: none of this is the reader's choice
        for name, control in self.form.items():
            control.value = self.blank[name]
            with suppress(TraitError):  # not an option of the schema
                control.value = attributes.get(name, self.blank[name])
        self.filled = self._values()

    def _keep(self):
        """Take over what was changed in the form, not what it cannot show; returns the boxes."""
        changes = {k: v for k, v in self._values().items() if v != self.filled[k]}
        if changes and self.regions:
            region, self.filled = self.regions[self.current], self._values()
            attributes = {**region.attributes, **changes}
            self.regions[self.current] = replace(region, attributes=attributes)
        return list(filter(_is_box, self.regions))

    def _select(self, _=None):
        """Let the form show the box that is selected now."""
        self._keep()
        selected, count = self.canvas.selected_index, len(self.regions)
        self.current = selected if 0 <= selected < count else count - 1
        if self.regions:
            self._fill(self.regions[self.current].attributes)
        text = f"picture {self.index + 1} of {len(self.names)}: {self.name}"
        self.progress.value = escape(text + f", box {self.current + 1} of {count}" * (count > 1))

    def _framed(self, shape):  # as the canvas has it: in its pixels from the corner of the frame
        x, y, width, height = np.multiply(via.bounding_box(shape), [*self.scale] * 2).tolist()
        return {**via.rect((x + self.frame, y + self.frame, width, height)), "label": ""}

    def _drawn(self, change):
        """Follow the canvas: it appends, changes or removes boxes, but never reorders them."""
        boxes, old, new, regions = self._keep(), change["old"], change["new"], self.regions
        if len(new) < len(old):  # the ones that stay have not moved
            regions = [r for r, box in zip(regions, old) if box in new][: len(new)]
        # what was chosen before there was any box is meant for the first
        fresh = via.Region({}, self.blank if boxes else self._values())
        pairs = zip([*regions, *[fresh] * len(new)], new)
        self.regions, self.current = [self._follow(*pair) for pair in pairs], -1
        self._select()
        self._save()

    def _follow(self, region, box):
        if region.shape and self._framed(region.shape) == box:  # not touched
            return region
        x, y, size = box["x"] - self.frame, box["y"] - self.frame, self.sizes[self.name]
        edges = np.divide([x, y, x + box["width"], y + box["height"]], [*self.scale] * 2)
        x, y, right, bottom = np.clip(edges.round().astype(int), 0, [*size, *size]).tolist()
        return replace(region, shape=via.rect([x, y, right - x, bottom - y]))

    def _unset(self, box):
        return [name for name in self.choices if not box.attributes.get(name)]

    def _in_hand(self, box):  # what was read has a row, and is not taken out of the file
        return not box.row and self._unset(box)

    def _save(self, ticked=()) -> bool:
        """Write what has changed, but no new box that is still in hand; whether the file has it."""
        boxes = [box for box in self._keep() if not self._in_hand(box)]
        boxes = list({str(box.shape): box for box in boxes}.values())  # the same box twice is one
        if boxes == self.shown and not ticked:
            return True
        try:
            with _alone(self.path):
                self.saved = self._read()  # another window may have saved since
                picture = self._picture(self.name)
                others = [r for r in picture.regions if not _is_box(r)]  # say, polygons of VIA
                about = {k: v for k, v in picture.file_attributes.items() if k not in via.NOTHING}
                about |= ticked
                picture = replace(picture, regions=others + boxes, file_attributes=about)
                saved = {**self.saved, self.name: picture}
                via.write_via_csv(list(saved.values()), self.path)
        except (OSError, ValueError) as error:  # a notebook would not show it
            self._say(f"Not saved: {error}")
            return False
        self.saved, self.shown = saved, boxes
        self._report()
        return True

    def _leave(self, step):
        whole = self._save() and not any(map(self._in_hand, self._keep()))
        lost = "" if whole else f"The changes to {self.name} were not saved."
        self._show(self.index + step, lost)

    def _submit(self, ticked=()):
        boxes = self._keep()
        if ticked and (boxes or self._picture(self.name).regions):
            self._say("There is a box: remove it by its cross, or press Submit.")
        elif not ticked and not boxes:
            self._say("Draw a box, let go in the frame. Or press Nothing to draw, or Skip.")
        elif unset := {k: None for box in boxes for k in self._unset(box)}:
            self._say(f"Still to choose: {', '.join(unset)}.")
        elif self._save(ticked):
            self._show(self.index + 1)


class Checkboxes(widgets.HBox):
    """Its `value` is VIA's dict of what is ticked: {"option": True}."""

    def __init__(self, options):
        self.boxes = {o: widgets.Checkbox(description=text, indent=False) for text, o in options}
        super().__init__(list(self.boxes.values()))

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


def _is_box(region):
    """False for what a click leaves behind, a drag that has only begun, and VIA's other shapes."""
    return region.shape["name"] == "rect" and min(via.bounding_box(region.shape)[2:]) > 0


def _canvas(picture):
    """A picture in a frame, where a drag may begin and end, on the canvas; the frame's pixels."""
    from jupyter_bbox_widget import BBoxWidget  # Assignment4A may have installed it just now

    frame = max(*picture.shape[:2], 16) // 16
    framed = np.pad(picture, [(frame, frame), (frame, frame), (0, 0)], constant_values=200)
    longest = max(framed.shape[:2])
    # enlarged by a whole number, so that all pixels are equally large; a photograph leaves room
    scale = max(432 // longest, min(520 / longest, 1))
    kind = "png" if scale >= 1 else "jpeg"
    # the picture travels inside its own address: Colab may drop binary buffers
    content = base64.b64encode(cv2.imencode(f".{kind}", framed[..., ::-1])[1]).decode()
    canvas = BBoxWidget(image=f"data:image/{kind};base64,{content}", colors=["#ff2d95"])
    canvas.layout.width = f"{round(framed.shape[1] * scale) + 10}px"
    return canvas, frame


@contextmanager
def _alone(path):
    """Wait while another window saves; whoever takes ten seconds has been killed."""
    lock = path.with_name(f".{path.name}.lock")
    for _ in range(500):
        with suppress(FileExistsError):
            lock.touch(exist_ok=False)
            break
        time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
