"""Draw boxes and choose attributes in the notebook; every Submit saves into one VIA CSV.

For Assignment4A: a thin layer of ipywidgets around jupyter-bbox-widget (https://github.com/
gereleth/jupyter-bbox-widget), in JupyterLab 4 and Colab. Boxes snap to the edges of the picture's
pixels.
"""

import base64
import os
from dataclasses import replace
from html import escape
from itertools import zip_longest
from pathlib import Path

import cv2
import ipywidgets as widgets
import numpy as np
from traitlets import TraitError

from helpers.annotation.via import Picture, Region, read_via, write_via_csv
from helpers.environment import in_colab

MARGIN = 24  # screen pixels around the picture, so that a drag may begin and end outside of it
SIDES = ("x", "y", "width", "height")
# the canvas has a list of classes, which is empty here, and an outline around both
STYLE = "<style>.annotator .classes {display: none} .annotator .wrapper {outline: none}</style>"

OTHER_WINDOW = (
    "Not saved: another window has saved this picture meanwhile. Submit again to replace its boxes "
    "by these; Skip, then Back, shows them."
)


def annotate(pictures, schema, path, scale=12):
    """A widget that shows pictures one at a time, to draw boxes and choose their attributes.

    Nothing is written before the first Submit; each one adds its picture to what `path` then holds,
    so that two windows may share it. If `path` exists, its boxes are shown, and work goes on at the
    first picture without any.

    Args:
        pictures: dict from file name to uint8 (H, W, 3), RGB.
        schema: VIA attributes, see `via.read_schema`; those of regions become controls.
        path: the VIA CSV; its boxes are in pixels of the pictures.
        scale: screen pixels per pixel of a picture, a whole number.

    Raises:
        ValueError: unsuitable pictures or scale, or an existing file that is damaged.
        OSError: `path` cannot be written.
        ImportError: jupyter-bbox-widget is not installed.
    """
    if not isinstance(pictures, dict):
        kind = type(pictures).__name__
        raise ValueError(f"pictures is a {kind}: a dict {{file name: picture}} is needed.")
    if not pictures:
        raise ValueError("There are no pictures to annotate: the dict is empty.")
    pictures = {name: np.asarray(picture) for name, picture in pictures.items()}
    for name, picture in pictures.items():
        if picture.dtype != np.uint8 or picture.shape[2:] != (3,) or not picture.size:
            raise ValueError(f"{name} is {picture.dtype} {picture.shape}, not uint8 (H, W, 3).")
    if not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale = {scale!r}: a whole number from 1 on is needed.")
    path = Path(path).resolve()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: name a file in a folder where you may write.")
    if in_colab():  # shows widgets that are not its own only if asked to
        from google.colab import output

        output.enable_custom_widget_manager()
    return Annotator(pictures, schema["region"], path, scale)


class Annotator(widgets.HBox):
    """The widget that `annotate` returns.

    `regions` runs parallel to the boxes on the canvas, in pixels of the picture. The form shows
    the attributes of `regions[current]`, the selected or else the last one; `_keep` reads it back.
    """

    def __init__(self, pictures, specs, path, scale):
        self.pictures, self.path, self.scale = pictures, path, scale
        self.names = list(pictures)
        self.saved = self._in_the_file() if path.exists() else {}
        self.form = {name: _control(spec) for name, spec in specs.items()}
        self.blank = self._values()
        self.progress, self.frame = widgets.HTML(), widgets.Box()
        self.status = widgets.HTML(layout={"min_height": "28px"})
        self.buttons = {}
        for name, style, tooltip, action in (
            ("Submit", "success", "save this picture, go to the next", self._submit),
            ("Back", "", "to the previous picture, saving nothing", lambda _: self._leave(-1)),
            ("Skip", "", "to the next picture, saving nothing", lambda _: self._leave(1)),
            ("Undo", "", "take back the last change of a box", self._undo),
        ):
            self.buttons[name] = widgets.Button(
                description=name, button_style=style, tooltip=tooltip, layout={"width": "80px"}
            )
            self.buttons[name].on_click(action)
        rows = [widgets.HTML(STYLE, layout={"display": "none"}), self.progress]
        for name, spec in specs.items():
            about = f"<b>{escape(name)}</b> &ensp; {escape(spec.get('description', ''))}"
            rows += [widgets.HTML(f"<div style='line-height: 1.4'>{about}</div>"), self.form[name]]
        rows += [widgets.HBox(list(self.buttons.values())), self.status]
        panel = widgets.VBox(rows, layout={"flex": "1 1 340px"})
        super().__init__([self.frame, panel], layout={"flex_flow": "row wrap"})
        self._show(next((i for i, name in enumerate(self.names) if not self._done(name)), 0))

    def __repr__(self):
        return f"Annotator({len(self.names)} pictures, {self.path.name})"

    def _in_the_file(self):
        """The pictures of the file by name."""
        found = read_via(self.path)
        saved = {picture.filename: picture for picture in found}
        if len(saved) < len(found):
            raise ValueError(f"{self.path} lists a picture twice: merge its rows.")
        return saved

    def _done(self, name):
        """The saved regions of a picture."""
        return self.saved[name].regions if name in self.saved else []

    def _show(self, index, message=""):
        """Display a picture with its saved boxes."""
        self.index, self.name, self.current, self.history = index, self.names[index], -1, []
        picture = self.pictures[self.name]
        self.size = picture.shape[1::-1]
        self.regions = [
            Region(_snap(_sides(region.shape), self.size), region.attributes)
            for region in filter(_is_box, self._done(self.name))
        ]
        # A new canvas for each picture: what the browser reports late, after Submit, then
        # cannot get into the next picture.
        self.canvas = _canvas(picture, self.scale, self._on_screen())
        self.canvas.observe(self._drawn, "bboxes")
        self.canvas.observe(self._select, "selected_index")
        old, self.frame.children = self.frame.children, [self.canvas]
        for canvas in old:
            canvas.unobserve_all()
            canvas.close()
        self._fill({})
        self._select()
        done = sum(bool(self._done(name)) for name in self.names)
        self._say(f"{message} {done} of {len(self.names)} saved in {self.path.name}.")
        self.buttons["Back"].disabled = index == 0
        self.buttons["Skip"].disabled = index == len(self.names) - 1

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

    def _keep(self):
        if 0 <= self.current < len(self.regions):
            region = self.regions[self.current]
            attributes = {**region.attributes, **self._values()}
            self.regions[self.current] = replace(region, attributes=attributes)

    def _select(self, _=None):
        """Let the form show the box that is selected now."""
        self._keep()
        chosen, count = self.canvas.selected_index, len(self.regions)
        self.current = chosen if 0 <= chosen < count else count - 1
        if self.regions:
            self._fill(self.regions[self.current].attributes)
        which = f", box {self.current + 1} of {count}" if count > 1 else ""
        where = f"picture {self.index + 1} of {len(self.names)}"
        self.progress.value = f"{where}: {escape(self.name)}{which}"

    # -- the canvas ----------------------------------------------------------------------------

    def _on_screen(self):
        """The boxes as the canvas wants them."""
        corners = [_sides(region.shape) * self.scale + _OFFSET for region in self.regions]
        return [dict(zip(SIDES, corner.tolist()), label="") for corner in corners]

    def _drawn(self, change):
        """Follow the canvas: it appends, changes or removes boxes, but never reorders them."""
        shapes = [_snap((_sides(box) - _OFFSET) / self.scale, self.size) for box in change["new"]]
        if shapes == _shapes(self.regions):
            return
        self._keep()
        old, before = self.regions, _with_area(self.regions)
        if len(shapes) < len(old):  # the ones that stay have not moved
            old = [region for region in old if region.shape in shapes][: len(shapes)]
        # what was chosen before there was any box is meant for the first
        new = Region({}, {} if before else self._values())
        pairs = zip_longest(old, shapes, fillvalue=new)
        self.regions, self.current = [replace(r, shape=shape) for r, shape in pairs], -1
        if _shapes(_with_area(self.regions)) != _shapes(before):
            self.history.append(before)
        self._select()

    # -- the buttons ---------------------------------------------------------------------------

    def _leave(self, step):
        lost = f"The changes to {self.name} were not saved." if self.history else ""
        self._show(self.index + step, lost)

    def _undo(self, _):
        if not self.history:
            return self._say("There is nothing to undo in this picture.")
        self.regions, self.current = self.history.pop(), -1
        self.canvas.bboxes = self._on_screen()
        self._select()
        self._say("")

    def _submit(self, _):
        self._keep()
        boxes, done = _with_area(self.regions), self._done(self.name)
        if not boxes and not done:
            return self._say("Draw a box, let go of the mouse inside the frame; or press Skip.")
        choices = [name for name, control in self.form.items() if hasattr(control, "options")]
        for number, box in enumerate(boxes, 1):
            if unset := [name for name in choices if not box.attributes.get(name)]:
                return self._say(f"Still to choose for box {number}: {', '.join(unset)}.")
        others = [region for region in done if not _is_box(region)]  # say, polygons of VIA
        shown = self.saved.get(self.name, Picture(self.name))
        try:
            # another window may have saved since; a file that is gone is written anew
            saved = self._in_the_file() if self.path.exists() else self.saved
            if saved.get(self.name, Picture(self.name)) != shown:
                self.saved = saved
                return self._say(OTHER_WINDOW)
            saved = {**saved, self.name: replace(shown, regions=others + boxes)}
            write_via_csv(list(saved.values()), self.path)
        except (OSError, ValueError) as error:  # a notebook would not show it
            return self._say(f"Not saved: {error}")
        self.saved = saved
        if self.index + 1 < len(self.names):
            self._show(self.index + 1)
        else:
            self._show(self.index, "This was the last picture.")


class Checkboxes(widgets.HBox):
    """Checkboxes with one `value`, VIA's dict of those that are ticked: {"option": True}."""

    def __init__(self, options):
        layout = {"width": "auto", "margin": "2px 20px 2px 2px"}
        self.boxes = {
            option: widgets.Checkbox(description=text, indent=False, layout=layout)
            for text, option in options
        }
        super().__init__(list(self.boxes.values()), layout={"flex_flow": "row wrap"})

    @property
    def value(self):
        return {option: True for option, box in self.boxes.items() if box.value}

    @value.setter
    def value(self, ticks):
        for option, box in self.boxes.items():
            box.value = isinstance(ticks, dict) and bool(ticks.get(option))


def _control(spec):
    """A control for one attribute; its `value` is as VIA stores it."""
    options = [(text or option, option) for option, text in spec.get("options", {}).items()]
    if spec["type"] == "text":
        return widgets.Text()
    if spec["type"] == "checkbox":
        return Checkboxes(options)
    if spec["type"] == "radio":
        return widgets.ToggleButtons(options=options, value=None, style={"button_width": "auto"})
    return widgets.Dropdown(options=[("choose …", ""), *options])


# -- boxes -----------------------------------------------------------------------------------------

_OFFSET = np.array([MARGIN, MARGIN, 0, 0])
_FRAME = (128, 128, 128, 40)  # a grey for light and dark pages, 40 of 255 opaque


def _sides(box):
    return np.array([box[side] for side in SIDES], float)


def _shapes(regions):
    return [region.shape for region in regions]


def _with_area(regions):
    """Without what a click leaves behind, or a drag that has only begun."""
    return [region for region in regions if region.shape["width"] and region.shape["height"]]


def _is_box(region):
    numbers = (isinstance(region.shape.get(side), (int, float)) for side in SIDES)
    return region.shape.get("name") == "rect" and all(numbers)


def _snap(sides, size):
    """VIA's rect of a box: whole pixels, inside a picture of `size` (width, height)."""
    low, high = (np.clip(edges, 0, size).round() for edges in (sides[:2], sides[:2] + sides[2:]))
    return {"name": "rect", **dict(zip(SIDES, map(int, (*low, *(high - low)))))}


def _canvas(picture, scale, boxes):
    """The enlarged picture in its frame, as a PNG inside its own address: Colab needs no file."""
    try:
        from jupyter_bbox_widget import BBoxWidget
    except ModuleNotFoundError:
        message = "To draw boxes, run `%pip install jupyter-bbox-widget`, then this cell again."
        raise ImportError(message) from None
    large = cv2.cvtColor(picture.repeat(scale, 0).repeat(scale, 1), cv2.COLOR_RGB2BGRA)
    large = cv2.copyMakeBorder(large, *[MARGIN] * 4, cv2.BORDER_CONSTANT, value=_FRAME)
    png = base64.b64encode(cv2.imencode(".png", large)[1]).decode()
    height, width = (f"{side + 10}px" for side in large.shape[:2])
    canvas = BBoxWidget(
        image=f"data:image/png;base64,{png}", bboxes=boxes, colors=["#ff2d95"],
        hide_buttons=True, layout={"width": width, "height": height},
    )  # fmt: skip
    canvas.add_class("annotator")  # see STYLE
    return canvas
