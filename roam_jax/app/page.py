"""The page: a video, a frame with boxes that can be drawn and moved, and buttons. What they do is in `job.py`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pandas
from gradio.themes import Default
from gradio_image_annotation import image_annotator

from roam_jax.app.job import Job
from roam_jax.cli import CODES
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.video.draw import COLOURS
from roam_jax.video.exports import FORMATS

WIDTH, LARGEST_SCALE = 960, 2.0
"""pixels of a frame on the page, and how much small ones are enlarged at most"""
EVERY = 0.5
"""seconds between two frames that are shown while it tracks"""
HELP = """Draw a box around each object, then track. Where it goes wrong, go to that frame, move the box, and track on
from there: the tracker learns from what you correct. Keys: c: draw boxes, d: move them, delete: remove the one that is
selected, &larr; &rarr;: a frame, space: track or stop."""
CSS = '#frame button[aria-label^="Rotate"] { display: none }'
"""it would turn the picture, but not the video"""
KEYS = """<script>document.addEventListener("keydown", (event) => {
  if (["INPUT", "TEXTAREA", "VIDEO"].includes(event.target.tagName)) return;
  const press = (id) => { const button = document.querySelector(id + ":not([disabled])"); if (button) button.click(); };
  if (event.key === "ArrowLeft") press("#earlier");
  else if (event.key === "ArrowRight") press("#later");
  else if (event.key === " ") { event.preventDefault(); press(document.body.dataset.busy ? "#stop" : "#forwards"); }
});</script>"""
BUSY, IDLE = ("() => { document.body.dataset.busy = '1'; }", "() => { delete document.body.dataset.busy; }")


@contextmanager
def explained() -> Iterator[None]:
    """What is wrong is one sentence on the page."""
    try:
        yield
    except tuple(CODES) as error:
        raise gr.Error(str(error), duration=None, print_exception=False) from error


def scale_of(job: Job) -> float:
    """Pixels of the page for each pixel of the video."""
    return min(LARGEST_SCALE, WIDTH / job.source.size_hw[1])


def show(job: Job, number: int) -> dict[str, Any]:
    """A frame with its boxes, for the annotator."""
    image, scale = job.frame(number), scale_of(job)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    boxes = []
    for target, box in sorted(job.boxes(number).items()):
        (left, top), (right, bottom) = np.round([box[:2] * scale, (box[:2] + box[2:]) * scale]).astype(int).tolist()
        said = job.said(number).get(target)
        name = f"{target + 1} lost" if said is not None and said.lost else str(target + 1)
        boxes.append(
            {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom, "label": name,
             "color": COLOURS[target % len(COLOURS)]}
        )  # fmt: skip
    return {"image": image, "boxes": boxes}


def take(job: Job, number: int, annotated: dict[str, Any] | None) -> None:
    """The user's boxes of a frame, from the annotator; what was not moved keeps its fractions of pixels."""
    shown = {box["label"].split()[0]: box for box in show(job, number)["boxes"]}
    scale, known, boxes = scale_of(job), job.boxes(number), []
    for box in (annotated or {}).get("boxes", []):
        name, sides = (box.get("label") or "").split(), ("xmin", "ymin", "xmax", "ymax")
        target = int(name[0]) - 1 if name and name[0].isdigit() else None
        if name and name[0] in shown and all(abs(box[side] - shown[name[0]][side]) < 1 for side in sides):
            boxes.append((target, known[int(name[0]) - 1]))
            continue
        left, top, right, bottom = (box[side] / scale for side in sides)
        boxes.append((target, np.array([left, top, right - left, bottom - top], np.float32)))
    job.give(number, boxes)


def plot(job: Job | None) -> pandas.DataFrame:
    """The timeline as a table."""
    points = job.timeline() if job else []
    return pandas.DataFrame(
        {
            "frame": [point.frame for point in points],
            "score": [point.score for point in points],
            "object": [f"{point.target + 1}{' lost' * point.lost}" for point in points],
        }
    )


def make_page(make_tracker: Callable[[], TrackerLike], video: str = "") -> gr.Blocks:
    """The page; each visitor has a job of their own.

    Args:
        make_tracker: makes the tracker of an object.
        video: to begin with.
    """

    def load(path: str | None) -> tuple[Any, ...]:
        if not path:
            return None, gr.update(value=0, maximum=1), None, plot(None)
        with explained():
            job = Job(path, make_tracker)
            return job, gr.update(value=0, maximum=max(1, job.count - 1)), show(job, 0), plot(job)

    def go(job: Job | None, shown: int, number: float, annotated: Any) -> tuple[Any, ...]:
        if job is None:
            return 0, 0, None
        number = int(np.clip(number, 0, job.count - 1))
        with explained():
            take(job, shown, annotated)
            return number, number, show(job, number)

    def track(job: Job | None, shown: int, annotated: Any, *, backwards: bool) -> Iterator[tuple[Any, ...]]:
        if job is None:
            raise gr.Error("open a video first", print_exception=False)
        with explained():
            take(job, shown, annotated)
            number, told = shown, time.monotonic()
            for number in job.track_back(shown) if backwards else job.track():
                if time.monotonic() >= told + EVERY:
                    told = time.monotonic()
                    yield number, number, show(job, number), gr.skip()
        yield number, number, show(job, number), plot(job)

    def both(job: Job | None, shown: int, annotated: Any) -> Iterator[tuple[Any, ...]]:
        yield from track(job, shown, annotated, backwards=True)
        if job is not None and not job.stopping:
            yield from track(job, shown, show(job, shown), backwards=False)

    def stop(job: Job | None) -> None:
        if job is not None:
            job.stopping = True

    def export(job: Job | None, formats: Sequence[str], with_video: bool) -> str:
        if job is None:
            raise gr.Error("open a video first", print_exception=False)
        path = Path(tempfile.mkdtemp(prefix="roam_jax_")) / "roam_output.zip"
        with explained():
            job.export(path, formats, video=with_video)
        return str(path)

    with gr.Blocks(title="roam_jax", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        job, shown = gr.State(None), gr.State(0)
        gr.Markdown(f"## roam_jax\n{HELP}")
        with gr.Accordion("Video", open=not video):
            source = gr.Video(label="Video", sources=["upload", "webcam"], elem_id="video", height=240)
        annotator = image_annotator(
            None, sources=[], show_label=False, disable_edit_boxes=True, box_min_size=4, handle_size=6,
            boxes_alpha=0.15, show_clear_button=False, show_download_button=False, show_share_button=False,
            elem_id="frame",
        )  # fmt: skip
        with gr.Row():
            earlier = gr.Button("◀", elem_id="earlier", min_width=40, scale=0)
            slider = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="slider", scale=8)
            later = gr.Button("▶", elem_id="later", min_width=40, scale=0)
        with gr.Row():
            backwards = gr.Button("Track backwards", elem_id="backwards")
            forwards = gr.Button("Track", elem_id="forwards", variant="primary")
            to_both = gr.Button("Track to both ends", elem_id="both")
            stopped = gr.Button("Stop", elem_id="stop", variant="stop")
        timeline = gr.LinePlot(
            plot(None),
            x="frame",
            y="score",
            color="object",
            y_lim=[0, 1],
            height=180,
            label="Score",
            elem_id="timeline",
        )
        with gr.Accordion("Export", open=True), gr.Row():
            formats = gr.CheckboxGroup(list(FORMATS), label="also as", elem_id="formats")
            with_video = gr.Checkbox(True, label="video")
            button = gr.Button("Make the zip", elem_id="export")
            file = gr.File(label="zip", elem_id="zip", height=80)

        place = [shown, slider, annotator]
        source.change(load, source, [job, slider, annotator, timeline]).then(lambda: 0, None, shown)
        slider.release(go, [job, shown, slider, annotator], place, show_progress="hidden")
        earlier.click(lambda j, s, a: go(j, s, s - 1, a), [job, shown, annotator], place, show_progress="hidden")
        later.click(lambda j, s, a: go(j, s, s + 1, a), [job, shown, annotator], place, show_progress="hidden")
        ways = {backwards: partial(track, backwards=True), forwards: partial(track, backwards=False), to_both: both}
        for each, way in ways.items():
            each.click(None, js=BUSY)
            each.click(
                way, [job, shown, annotator], [*place, timeline], show_progress="hidden", concurrency_limit=1
            ).then(None, js=IDLE)
        stopped.click(stop, job, None, queue=False)
        button.click(export, [job, formats, with_video], file)
        if video:
            page.load(lambda: load(video), None, [job, slider, annotator, timeline])
    return page


def launch(
    make_tracker: Callable[[], TrackerLike],
    video: str = "",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    largest_mb: int = 4000,
    browser: bool = False,
    block: bool = True,
) -> tuple[gr.Blocks, str]:
    """Serve the page.

    Args:
        make_tracker: makes the tracker of an object.
        video: to begin with.
        host: address to listen at.
        port: 0: the first free one.
        largest_mb: of an upload.
        browser: open it there.
        block: return only when it has ended.

    Returns:
        The page, for `close`, and its address.

    Raises:
        OSError: the address cannot be had.
    """
    page = make_page(make_tracker, video)
    theme = Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # no network
    _, address, _ = page.launch(
        server_name=host, server_port=port or None, inbrowser=browser, share=False, quiet=True, ssr_mode=False,
        max_file_size=largest_mb * 2**20, head=KEYS, css=CSS, theme=theme, footer_links=[],
        enable_monitoring=False, prevent_thread_lock=True,
    )  # fmt: skip
    print(f"the page is at {address}", flush=True)
    if block:
        page.block_thread()
    return page, address
