"""The notebook's widget in a real browser: what the mouse does there, and what is seen.

The page has nothing but the ES module and a model that hands every message to this process, where the widget is: the
part of Jupyter.
"""

from __future__ import annotations

import base64
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import roam_jax.notebook
from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.notebook import Tracking
from roam_jax.tracking.params import init_params, params_to_dict

webdriver = pytest.importorskip("selenium.webdriver")
MODULE = Path(roam_jax.notebook.__file__).with_suffix(".js").read_text(encoding="utf-8")
COUNT = 8
SYNCED = ("frame", "target", "running", "message", "shown", "timeline", "targets", "video")
SETUP = """
const [source, state, done] = arguments;
const listeners = {};
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
function unpack(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  if ("bytes" in value) return bytes(value.bytes);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpack(each)]));
}
window.model = {
  state: unpack(state), sent: [], changed: {},
  get: (key) => model.state[key],
  set: (key, value) => { model.changed[key] = value; model.tell({ [key]: value }); },
  save_changes: () => { model.sent.push({ state: model.changed }); model.changed = {}; },
  send: (content) => model.sent.push({ content }),
  on: (name, act) => (listeners[name] ??= []).push(act),
  off: (name, act) => (listeners[name] = listeners[name].filter((each) => each !== act)),
  receive: (news) => model.tell(unpack(news)),
  tell: (news) => {
    Object.assign(model.state, news);
    for (const key of Object.keys(news)) (listeners["change:" + key] ?? []).forEach((act) => act());
  },
};
import(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))).then((module) => {
  window.leave = module.default.render({ model, el: document.getElementById("root") });
  window.listening = () => Object.values(listeners).flat().length;
  done("");
}, (error) => done(String(error)));
"""


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in paths.items() if path is None]:
        pytest.skip(f"there is no {' and no '.join(missing)} here")
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=800,800"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths["chromedriver"]))
    yield driver
    driver.quit()


class Page:
    """The widget and its page, between which `pump` carries the messages."""

    def __init__(self, browser, widget: Tracking) -> None:
        self.browser, self.widget, self.known = browser, widget, {}
        browser.get("data:text/html,<body style='margin:0'><div id=root></div>")
        assert browser.execute_async_script(SETUP, MODULE, self.news()) == ""

    def news(self) -> dict:
        values = {name: getattr(self.widget, name) for name in SYNCED}
        changed = {name: value for name, value in values.items() if self.known.get(name, self) != value}
        self.known = values
        return packed(changed)

    def pump(self) -> None:
        for message in self.browser.execute_script("return model.sent.splice(0)"):
            if "content" in message:
                self.widget._handle_custom_msg(message["content"], [])
            else:
                self.widget.set_state(message["state"])
                self.known |= message["state"]
        self.browser.execute_script("model.receive(arguments[0])", self.news())

    def until(self, happens, seconds: float = 60.0) -> None:
        began = time.monotonic()
        while not happens():
            assert time.monotonic() - began < seconds, f"{self.text('.message')} {self.text('.place')}"
            self.pump()
            time.sleep(0.02)

    def find(self, css: str):
        return self.browser.find_element("css selector", css)

    def text(self, css: str) -> str:
        return self.find(css).text

    def seen(self) -> int:
        """Number of the frame that is on the canvas."""
        return int(self.find(".roam-jax").get_attribute("data-shown") or -1)

    def go_to(self, number: int) -> None:
        slider = "const s = document.querySelector('[type=range]'); s.value = arguments[0]; "
        self.browser.execute_script(slider + "s.dispatchEvent(new Event('input'))", number)
        self.until(lambda: self.seen() == number)

    def drag(self, box_xywh) -> None:
        """Draw a box in image pixels with the mouse."""
        canvas, video = self.find(".picture"), self.widget.video
        scale = canvas.rect["width"] / video["width"]
        x, y, w, h = (float(value) * scale for value in box_xywh)
        left, top = x - canvas.rect["width"] / 2, y - canvas.rect["height"] / 2
        mouse = webdriver.ActionChains(self.browser, duration=20)
        mouse.move_to_element_with_offset(canvas, round(left), round(top)).click_and_hold()
        mouse.move_by_offset(round(w), round(h)).release().perform()

    def pixel(self, x: float, y: float) -> list[int]:
        """RGB of the canvas, which has the frame's pixels."""
        ask = "return [...document.querySelector('.picture').getContext('2d').getImageData(...arguments, 1, 1).data]"
        return self.browser.execute_script(ask, int(x), int(y))[:3]


def packed(value):
    """With bytes as JSON can carry them."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return {key: packed(each) for key, each in value.items()} if isinstance(value, dict) else value


@pytest.fixture
def clip():
    sequence = synthetic_sequence(0, length=COUNT)
    return list(sequence.frames.get(range(COUNT))), sequence.boxes_xywh


@pytest.fixture
def page(browser, clip):
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    widget = Tracking(clip[0], checkpoint=Checkpoint(config, params_to_dict(params), "for tests"))
    yield Page(browser, widget)
    widget.close()


def test_draw_track_correct_and_play(page, clip):
    images, boxes = clip
    widget = page.widget
    page.until(lambda: page.seen() == 0)
    far = images[0][10, 10].astype(float)
    assert np.abs(np.array(page.pixel(10, 10)) - far).max() < 40, "the frame is seen"

    page.drag(boxes[0])
    page.until(lambda: widget.targets == 1)
    given = widget._work.given[0, 0]
    np.testing.assert_allclose(given, boxes[0], atol=1.5)
    edge = page.pixel(given[0], given[1] + given[3] / 2)
    np.testing.assert_allclose(edge, (0, 230, 118), atol=60)
    assert page.text("select.target") == "1\n2 (new)"

    page.find(".track").click()
    page.until(lambda: widget._work.next == COUNT and not widget.running)
    page.until(lambda: page.seen() == COUNT - 1)
    assert page.text(".message").startswith(f"{COUNT} frames tracked")
    assert page.text(".place").startswith(f"frame {COUNT - 1} of {COUNT}")
    before = widget.result.boxes_xywh

    page.go_to(5)
    page.drag(boxes[5])
    page.until(lambda: (5, 0) in widget._work.given)
    page.find(".track").click()
    page.until(lambda: widget._work.next == COUNT and not widget.running)
    np.testing.assert_array_equal(widget.result.boxes_xywh[:5], before[:5])
    np.testing.assert_array_equal(widget.result.boxes_xywh[5, 0], widget._work.given[5, 0])

    page.until(lambda: page.seen() == COUNT - 1)
    page.find(".play").click()
    seen = set()
    page.until(lambda: seen.add(page.seen()) or (page.text(".play") == "Play" and page.seen() == COUNT - 1))
    assert len(seen) > 3, "frame after frame"

    page.go_to(5)
    page.find(".remove").click()
    page.until(lambda: (5, 0) not in widget._work.given)
    page.browser.execute_script("leave()")
    assert page.browser.execute_script("return listening()") == 0


def test_several_objects_and_a_click_is_no_box(page, clip):
    widget = page.widget
    page.until(lambda: page.seen() == 0)
    page.drag((30, 30, 0, 0))
    page.drag(clip[1][0])
    page.until(lambda: widget.targets == 1)
    page.browser.execute_script(
        "const s = document.querySelector('select'); s.value = 1; s.dispatchEvent(new Event('change'))"
    )
    page.until(lambda: widget.target == 1)
    page.drag((10, 10, 30, 20))
    page.until(lambda: widget.targets == 2)
    assert widget._work.given.keys() == {(0, 0), (0, 1)}
    np.testing.assert_allclose(page.pixel(10, 20), (64, 156, 255), atol=70)
