"""A reader's own photographs: turned upright, reduced, named, refused with a reason."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import environment
from helpers.annotation import example_set, via
from helpers.annotation.pictures import LONGEST, album
from helpers.files import to_json
from helpers.training import data

RED, BLUE = (250, 10, 10), (10, 10, 250)
# EXIF's orientation -> how the picture is stored that is to be seen upright
STORED = {
    1: None, 3: Image.Transpose.ROTATE_180, 2: Image.Transpose.FLIP_LEFT_RIGHT,
    6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 5: Image.Transpose.TRANSPOSE,
}  # fmt: skip


def photograph(path, size=(60, 40), orientation=1, **options):
    """A blue picture with a red quarter at the top left, as it is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, tag = Image.new("RGB", size, BLUE), Image.Exif()
    image.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    tag[0x0112] = orientation
    image = image.transpose(STORED[orientation]) if STORED[orientation] is not None else image
    image.save(path, exif=tag, **options)
    return path


@pytest.fixture(scope="module")
def course(scenes):
    return example_set.example_set(data.synthetic(train=200, test=100))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_seen_upright_and_reduced_and_copied_so(course, place, suffix, orientation):
    size, name = (1801, 1200), f"IMG (1).{suffix}"
    source = photograph(place / name, size, orientation, quality=95)
    photos = album(course, place)
    assert photos.sizes == {name: size} and photos.images[name].shape == (533, LONGEST, 3)
    photos.save(Path("copies"), photos.images)
    copy = Image.open(Path("copies", name))
    assert copy.size == size and copy.getexif().get(0x0112, 1) == 1
    assert (Path("copies", name).read_bytes() == source.read_bytes()) == (orientation == 1)
    for pixels in (photos.images[name], np.asarray(copy.convert("RGB").reduce(2))):
        h, w = pixels.shape[:2]
        assert np.abs(pixels[5, 5].astype(int) - RED).max() < 9
        for y, x in ((h - 5, 5), (5, w - 5), (h - 5, w - 5)):
            assert np.abs(pixels[y, x].astype(int) - BLUE).max() < 9


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(course, place):
    for name in ("a/1.jpg", "b/1.jpg", "good.JPEG"):
        photograph(place / name)
    for broken in ("cut 1.jpg", "cut 2.jpg"):
        (place / broken).write_bytes(photograph(place / "x.jpg", (600, 400)).read_bytes()[:900])
    (place / "x.jpg").write_text("<svg/>")
    photograph(place / "a,b.jpg")
    (place / "IMG_1.HEIC").touch()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(place / "deep.png")
    Image.new("1", (20_000, 10_000)).save(place / "huge.png")
    for ignored in ("notes.txt", ".hidden.jpg", "__MACOSX/b/._1.jpg", ".cache/1.jpg"):
        (place / ignored).parent.mkdir(exist_ok=True, parents=True)
        (place / ignored).write_text("no picture")
    photos = album(course, place)
    assert list(photos.images) == ["a/1.jpg", "b/1.jpg", "good.JPEG"]  # kept apart by folder
    photos.save(Path("copies"), photos.images)
    assert {p.name for p in Path("copies").iterdir()} == {"a__1.jpg", "b__1.jpg", "good.JPEG"}
    notes = photos.notes[:-1]
    assert sorted(note.removeprefix("left out: ") for note in notes) == [
        "IMG_1.HEIC: few programs read HEIC: export it as JPEG",
        "a,b.jpg: VIA's CSV holds no name with a comma, quote or line break: rename it",
        "cut 1.jpg and 3 more: no picture of 8 bits that can be read: save it as JPEG again",
        "huge.png: more than 179 million pixels: save a smaller copy",
    ]


@pytest.mark.filterwarnings("error")
def test_a_picture_of_100_megapixels_is_shown(course, place):
    place.mkdir()
    Image.new("L", (12_500, 8_000), 90).save(place / "wide.jpg")
    photos = album(course, place)
    assert photos.sizes == {"wide.jpg": (12_500, 8_000)}
    assert photos.images["wide.jpg"].shape == (512, 800, 3)


def test_a_zip_is_read_and_nothing_is_written_outside(course, place, tmp_path):
    picture, outside = photograph(place / "1.jpg"), tmp_path / "evil.jpg"
    names = ("cats/1.jpg", "dogs/1.jpg", "../evil.jpg", str(outside), "__MACOSX/cats/._1.jpg")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for name in names:
            archive.writestr(name, picture.read_bytes())
        archive.writestr("cats/.DS_Store", "")
        archive.writestr("inner.zip", "PK")
    photos = album(course, Path("photos.zip"))
    assert list(photos.images) == ["cats/1.jpg", "dogs/1.jpg"] and not outside.exists()
    assert "left out: ../evil.jpg and 1 more: its path leads out of the zip" in photos.notes
    assert list(photos.schema["region"]["label"]["options"]) == ["cats", "dogs"]
    Path("cut.zip").write_bytes(Path("photos.zip").read_bytes()[60:])
    with pytest.raises(ValueError, match=r"PICTURES = 'cut.zip' cannot be unpacked"):
        album(course, Path("cut.zip"))


def test_what_is_no_album_stops_it_with_one_message(course, place):
    with pytest.raises(FileNotFoundError, match="PICTURES = 'photos' is no folder and no zip"):
        album(course, place)
    place.mkdir()
    (place / "a.heic").touch()
    with pytest.raises(ValueError, match=r"photos' holds no PNG or JPEG.*a.heic: few programs"):
        album(course, place)
    photograph(place / "1.jpg")
    Path("mine.json").write_text(to_json({"region": {"color": {"type": "text"}}, "file": {}}))
    with pytest.raises(ValueError, match=r"mine.json has no region attribute 'label'"):
        album(course, place, Path("mine.json"))


def test_a_template_of_the_schema_is_written_and_can_be_edited(course, place):
    photograph(place / "1.jpg")
    photos = album(course, place)
    assert list(photos.schema["region"]) == ["label", "truncated", "occluded"]
    template = Path("my_boxes/photos_attributes.json")
    assert via.read_schema(template) == photos.schema and str(template) in photos.notes[0]
    template.write_text(template.read_text().replace("class_1", "cat"))
    assert "cat" in album(course, place).schema["region"]["label"]["options"]
    bare = {"region": {"label": {"type": "text"}}, "file": {}}
    Path("mine.json").write_text(to_json(bare))
    mine = album(course, place, Path("mine.json")).schema
    assert mine["region"] == bare["region"] and "nothing_to_draw" in mine["file"]


def test_boxes_stand_outside_build_each_album_its_own_and_on_drive(course, place, monkeypatch):
    photograph(place / "1.jpg")
    of_course, own = album(course), album(course, place)
    assert of_course.boxes == Path("my_boxes/course_set.csv") != own.boxes
    of_course.boxes.write_text("drawn before")
    drive = Path("MyDrive").resolve()
    monkeypatch.setattr(environment, "DRIVE", drive)
    monkeypatch.setattr(environment, "in_colab", lambda: True)
    assert album(course).boxes == of_course.boxes  # not mounted
    drive.mkdir()
    moved = album(course).boxes
    assert moved == drive / of_course.boxes and moved.read_text() == "drawn before"
    assert not of_course.boxes.exists() and album(course).boxes == moved
