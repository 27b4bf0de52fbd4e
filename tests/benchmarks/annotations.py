"""CPU time to read, check, compare and export 1,000 to 100,000 regions; linear growth has ratio 10.

Run by hand: python tests/benchmarks/annotations.py
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.annotation import agreement, checks  # noqa: E402
from helpers.annotation import exports as ex  # noqa: E402
from helpers.annotation import via as an  # noqa: E402

SIZE, PER_PICTURE = (640, 480), 2
OPTIONS = {
    "label": "cat dog ship truck",
    "viewpoint": "front rear side",
    "truncated": "no yes",
    "occluded": "no yes",
    "background": "plain sky water",
}
SCHEMA = {
    "region": {
        name: {"type": "dropdown", "options": dict.fromkeys(options.split(), "")}
        for name, options in OPTIONS.items()
    },
    "file": {},
}
SCHEMA["region"]["image_quality"] = {"type": "checkbox", "options": {"blurred": ""}}


def made_up(n, seed=0):
    """Pictures with n regions in all, every attribute answered."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 300, (n, 2)).tolist()
    lengths = rng.integers(20, 180, (n, 2)).tolist()
    choices = {k: rng.choice(v.split(), n).tolist() for k, v in OPTIONS.items()}
    regions = [
        an.Region(
            {"name": "rect", "x": x, "y": y, "width": w, "height": h},
            {**{k: v[i] for k, v in choices.items()}, "image_quality": {}},
        )
        for i, ((x, y), (w, h)) in enumerate(zip(corners, lengths))
    ]
    return [
        an.Picture(f"picture_{i:06d}.png", regions[i : i + PER_PICTURE])
        for i in range(0, n, PER_PICTURE)
    ]


def measure(n):
    """CPU seconds per step, as a dict."""
    pictures, classes = made_up(n), OPTIONS["label"].split()
    sizes, tiny = ({p.filename: size for p in pictures} for size in (SIZE, (300, 300)))
    with tempfile.TemporaryDirectory() as name:
        f = Path(name)
        steps = {
            "write CSV": lambda: an.write_via_csv(pictures, f / "v.csv"),
            "read CSV": lambda: an.read_via(f / "v.csv"),
            "write project": lambda: an.write_via_project(pictures, f / "v.json", SCHEMA),
            "read project": lambda: an.read_via(f / "v.json"),
            "check": lambda: checks.check(pictures, SCHEMA, sizes),
            "check, all wrong": lambda: checks.check(pictures, SCHEMA, tiny),
            "tidy": lambda: checks.tidy(pictures, sizes),
            "compare": lambda: agreement.compare(pictures, pictures),
            "write COCO": lambda: ex.write_coco(pictures, f / "c", sizes, classes),
            "read COCO": lambda: ex.read_coco(f / "c"),
            "write YOLO": lambda: ex.write_yolo(pictures, f / "y", sizes, classes),
            "read YOLO": lambda: ex.read_yolo(f / "y", sizes),
            "write VOC": lambda: ex.write_voc(pictures, f / "x", sizes),
            "read VOC": lambda: ex.read_voc(f / "x"),
        }
        seconds = {}
        for step, run in steps.items():
            start = time.process_time()
            run()
            seconds[step] = time.process_time() - start
    return {**seconds, "all": sum(seconds.values())}


if __name__ == "__main__":
    counts = [1_000, 10_000, 100_000]
    times = [measure(n) for n in counts]
    print(f"{'CPU seconds, regions':20}" + "".join(f"{n:>10,}" for n in counts) + "   ratios")
    for step in times[0]:
        t = [column[step] for column in times]
        print(
            f"{step:20}"
            + "".join(f"{v:10.3f}" for v in t)
            + f"   {t[1] / t[0]:5.1f} {t[2] / t[1]:5.1f}"
        )
