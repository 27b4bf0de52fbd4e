"""Pictures to annotate, as reduced copies; boxes are in pixels of the originals, turned upright."""

import atexit
import re
import shutil
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps

from helpers.annotation import exports, via
from helpers.environment import kept
from helpers.files import to_json, write_text

LONGEST = 800  # pixels: what is shown fits into memory, and onto a page
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # EPS would be code
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif")


@dataclass(frozen=True)
class Album:
    """Pictures to annotate, by name; a name is relative, with forward slashes."""

    images: dict  # uint8 (height, width, 3), RGB, at most LONGEST pixels long
    sizes: dict  # (width, height) of the originals, in pixels
    schema: dict  # as of `via.read_schema`
    boxes: Path  # the VIA CSV for what is drawn
    folder: Path | None = None  # of a reader's own pictures
    notes: tuple = ()  # what was left out, and where the schema is

    def save(self, folder, names, scale=1) -> None:
        """Write upright copies, `scale` times as large, by their `flat_name` into a new folder."""
        folder.mkdir(parents=True)
        for name in names:
            path = folder / exports.flat_name(name)
            if not self.folder or scale > 1:
                large = self.images[name].repeat(scale, axis=0).repeat(scale, axis=1)
                Image.fromarray(large).save(path, quality=95)
                continue
            with _open(self.folder / name) as image:
                if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
                    shutil.copyfile(self.folder / name, path)
                else:
                    profile = image.info.get("icc_profile")
                    ImageOps.exif_transpose(image).save(path, quality=95, icc_profile=profile)


def album(course, source=None, schema=None) -> Album:
    """The pictures of an `ExampleSet`, or of a folder or zip `source`, with a file of their schema.

    Without `schema` a template is written beside the boxes. FileNotFoundError, ValueError.
    """
    if not source:
        images = dict(sorted(course.images.items(), key=lambda item: item[0][-8:]))  # by number
        sizes = {name: image.shape[1::-1] for name, image in images.items()}
        boxes = kept("course_set.csv")
        return Album(images, sizes, course.schema, boxes)
    if not (is_zip := zipfile.is_zipfile(source)) and not source.is_dir():
        raise FileNotFoundError(f"PICTURES = '{source}' is no folder and no zip. Check the path.")
    images, sizes, out = {}, {}, {}
    folder = _unpack(source, out) if is_zip else source
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
        if not hidden and name.lower().endswith(SUFFIXES) and path.is_file():
            try:
                images[name], sizes[name] = _read(path, name)
            except ValueError as error:
                out.setdefault(str(error), []).append(name)
    notes = [
        f"left out: {names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {reason}"
        for reason, names in out.items()
    ]
    if not images:
        why = "; ".join(["name the folder of your photographs", *notes])
        raise ValueError(f"PICTURES = '{source}' holds no PNG or JPEG: {why}")
    boxes = kept("_".join(re.findall(r"[\w-]+", str(source)))[-80:] + ".csv")
    if not schema:
        schema = boxes.with_name(f"{boxes.stem}_attributes.json")
        notes.append(f"labels and attributes: edit {schema}, and run this cell again")
        if not schema.exists():
            classes = sorted({PurePosixPath(name).parent.name for name in images})
            classes = classes if all(classes) and classes[1:] else ["class_1", "class_2", "class_3"]
            template = {k: course.schema["region"][k] for k in ("label", "truncated", "occluded")}
            template["label"] = {**template["label"], "options": {c: c for c in classes}}
            write_text(schema, to_json({"region": template, "file": course.schema["file"]}))
    own = via.read_schema(schema)
    if "label" not in own["region"]:
        raise ValueError(f"{schema} has no region attribute 'label', the class of a box: add it.")
    own["file"] = {**course.schema["file"], **own["file"]}  # where nothing to draw is ticked
    return Album(images, sizes, own, boxes, folder, tuple(notes))


def _unpack(source, out):
    """A folder, removed at exit, with the pictures of a zip; nothing is written elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="pictures_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(source) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(SUFFIXES)]
            outside = [name for name in names if re.search(r"^[/\\]|^\w:|(^|[/\\])\.\.[/\\]", name)]
            out |= {"its path leads out of the zip": outside} if outside else {}
            archive.extractall(folder, set(names) - set(outside))
    except Exception as error:  # of zip, of zlib, of the disk, of a password
        raise ValueError(f"PICTURES = '{source}' cannot be unpacked ({error}).") from error
    return folder


def _open(path):
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        return Image.open(path, formats=FORMATS)  # warns from 90 million pixels on, fails at twice


def _read(path, name):
    """A reduced copy and the upright size; ValueError with the reason to leave the picture out."""
    if name.lower().endswith((".heic", ".heif")):
        raise ValueError("few programs read HEIC: export it as JPEG")
    if re.search('[",\r\n]', name):
        raise ValueError("VIA's CSV holds no name with a comma, quote or line break: rename it")
    try:
        with _open(path) as image:
            if image.mode[0] in "IF":  # conversion would cut off all above 255
                raise ValueError
            size = image.size
            image.draft("RGB", (LONGEST, LONGEST))  # a JPEG is decoded no larger than needed
            upright = ImageOps.exif_transpose(image)
            size = size if upright.size == image.size else size[::-1]
            upright = upright.convert("RGB")
            upright.thumbnail((LONGEST, LONGEST))
            return np.asarray(upright), size
    except Image.DecompressionBombError:
        raise ValueError("more than 179 million pixels: save a smaller copy") from None
    except Exception:  # every format has its own
        raise ValueError("no picture of 8 bits that can be read: save it as JPEG again") from None
