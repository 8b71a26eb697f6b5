"""Results in the formats of other tools.

| name          | file               | read by                        | counts frames from | counts pixels from |
|---------------|--------------------|--------------------------------|--------------------|--------------------|
| `csv`         | `track.csv`        | tables, pandas                 | 0                  | 0                  |
| `mot`         | `mot.txt`          | MOTChallenge tools, TrackEval  | 1                  | 1                  |
| `coco`        | `coco.json`        | COCO tools, supervision        | 1 (image ids)      | 0                  |
| `yolo`        | `yolo.zip`         | Ultralytics, supervision       | 0 (in file names)  | parts of the image |
| `cvat`        | `cvat.xml`         | CVAT ("CVAT for video 1.1")    | 0                  | 0                  |
| `labelstudio` | `labelstudio.json` | Label Studio (VideoRectangle)  | 1                  | percent            |

A frame in which an object is lost has no box in `mot`, `coco` and `yolo`, and one that is marked as outside in `cvat`
and as disabled in `labelstudio`. A box is never cut at the image's edge but in `yolo`, which cannot say more.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from roam_jax.video.formats import Box, Observation

LABEL = "object"
"""class of everything that is tracked"""


@dataclass(frozen=True)
class Clip:
    """What was tracked."""

    name: str
    """of the input"""
    size_hw: tuple[int, int]
    fps: float
    observations: list[Observation]
    """of all frames and objects, in the order of the frames"""

    @property
    def shown(self) -> list[Observation]:
        """Those in which the object is there."""
        return [each for each in self.observations if not each.lost and np.isfinite(each.box_xywh).all()]

    def by_target(self) -> list[tuple[int, list[Observation]]]:
        """Finite boxes of each object."""
        finite = (each for each in self.observations if np.isfinite(each.box_xywh).all())
        ordered = sorted(finite, key=lambda each: (each.target, each.frame))
        return [(target, list(group)) for target, group in groupby(ordered, key=lambda each: each.target)]


def file_of(frame: int) -> str:
    """Name of a frame's file, without suffix, in formats that name files."""
    return f"frame_{frame:06d}"


def as_csv(clip: Clip) -> bytes:
    """A row for each frame and object."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame", "time", "target", "x", "y", "w", "h", "score", "lost"])
    for each in clip.observations:
        box = [round(float(value), 3) for value in each.box_xywh]
        rows.writerow([each.frame, round(each.time, 6), each.target + 1, *box, round(each.score, 5), int(each.lost)])
    return text.getvalue().encode()


def as_mot(clip: Clip) -> bytes:
    """Lines frame,id,left,top,width,height,confidence,-1,-1,-1."""
    lines = []
    for each in clip.shown:
        x, y, w, h = map(float, each.box_xywh)
        box = f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}"
        lines.append(f"{each.frame + 1},{each.target + 1},{box},{each.score:.4f},-1,-1,-1\n")
    return "".join(lines).encode()


def as_coco(clip: Clip) -> bytes:
    """Images, annotations with the object's number as `track_id`, one category."""
    height, width = clip.size_hw
    frames = sorted({each.frame for each in clip.observations})
    images = [
        {"id": frame + 1, "file_name": f"{file_of(frame)}.jpg", "width": width, "height": height} for frame in frames
    ]
    annotations = [
        {
            "id": number,
            "image_id": each.frame + 1,
            "category_id": 1,
            "bbox": [round(float(value), 2) for value in each.box_xywh],
            "area": round(float(each.box_xywh[2] * each.box_xywh[3]), 2),
            "iscrowd": 0,
            "segmentation": [],
            "track_id": each.target + 1,
            "score": round(each.score, 5),
        }
        for number, each in enumerate(clip.shown, start=1)
    ]
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    info = {"description": clip.name, "version": "1.0"}
    content = {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content).encode()


def as_yolo(clip: Clip) -> bytes:
    """A zip of `labels/frame_000000.txt`, lines class,x,y,w,h of the centre, in parts of the image, and `data.yaml`."""
    height, width = clip.size_hw
    lines: dict[int, list[str]] = {each.frame: [] for each in clip.observations}
    for each in clip.shown:
        low = np.clip(each.box_xywh[:2], 0, (width, height))
        high = np.clip(each.box_xywh[:2] + each.box_xywh[2:], 0, (width, height))
        if (high > low).all():
            middle, size = (low + high) / 2 / (width, height), (high - low) / (width, height)
            lines[each.frame].append("0 " + " ".join(f"{value:.6f}" for value in (*middle, *size)))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.yaml", f"path: .\ntrain: images\nval: images\nnc: 1\nnames: [{LABEL}]\n")
        for frame, rows in lines.items():
            archive.writestr(f"labels/{file_of(frame)}.txt", "".join(f"{row}\n" for row in rows))
    return data.getvalue()


def as_cvat(clip: Clip) -> bytes:
    """A track for each object, every box a key frame."""
    height, width = clip.size_hw
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    count = max((each.frame for each in clip.observations), default=-1) + 1
    for name, text in (("name", clip.name), ("size", str(count)), ("mode", "interpolation")):
        ElementTree.SubElement(task, name).text = text
    label = ElementTree.SubElement(ElementTree.SubElement(task, "labels"), "label")
    ElementTree.SubElement(label, "name").text = LABEL
    ElementTree.SubElement(label, "attributes")
    size = ElementTree.SubElement(task, "original_size")
    ElementTree.SubElement(size, "width").text = str(width)
    ElementTree.SubElement(size, "height").text = str(height)
    for target, observations in clip.by_target():
        track = ElementTree.SubElement(root, "track", id=str(target), label=LABEL, source="auto")
        for each in observations:
            _add_box(track, each.frame, each.box_xywh, outside=each.lost)
        if (last := observations[-1]).frame + 1 < count:  # it would be there to the end
            _add_box(track, last.frame + 1, last.box_xywh, outside=True)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _add_box(track: ElementTree.Element, frame: int, box_xywh: Box, *, outside: bool) -> None:
    x, y, w, h = map(float, box_xywh)
    edges = {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}
    state = {"frame": str(frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1", "z_order": "0"}
    ElementTree.SubElement(track, "box", {**state, **{name: f"{value:.2f}" for name, value in edges.items()}})


def as_labelstudio(clip: Clip) -> bytes:
    """A task with a prediction, for `<Video name="video">` and `<VideoRectangle name="box">`."""
    height, width = clip.size_hw
    count = max((each.frame for each in clip.observations), default=-1) + 1
    regions = []
    for target, observations in clip.by_target():
        sequence = []
        for each in observations:
            percent = np.asarray(each.box_xywh, float) * 100 / (width, height, width, height)
            box = dict(zip(("x", "y", "width", "height"), (round(value, 4) for value in percent.tolist()), strict=True))
            at = {"frame": each.frame + 1, "time": round(each.time, 4), "enabled": not each.lost, "rotation": 0}
            sequence.append({**at, **box})
        value = {"framesCount": count, "duration": round(count / clip.fps, 4), "sequence": sequence, "labels": [LABEL]}
        region = {"id": f"object{target + 1}", "from_name": "box", "to_name": "video", "type": "videorectangle"}
        regions.append({**region, "value": value})
    task = {"data": {"video": clip.name}, "predictions": [{"model_version": "roam_jax", "result": regions}]}
    return json.dumps([task]).encode()


FORMATS: dict[str, tuple[str, Callable[[Clip], bytes]]] = {
    "csv": ("track.csv", as_csv),
    "mot": ("mot.txt", as_mot),
    "coco": ("coco.json", as_coco),
    "yolo": ("yolo.zip", as_yolo),
    "cvat": ("cvat.xml", as_cvat),
    "labelstudio": ("labelstudio.json", as_labelstudio),
}
"""name of the file and what makes it"""


def write_exports(folder: Path, names: Sequence[str], clip: Clip) -> list[str]:
    """Write the formats of these names; returns the names of the files.

    Raises:
        OSError: a file cannot be written.
    """
    for name in names:
        file, make = FORMATS[name]
        (folder / file).write_bytes(make(clip))
    return [FORMATS[name][0] for name in names]
