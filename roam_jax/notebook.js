// What is seen of `Tracking`: a frame on a canvas, on which boxes are drawn, a slider, a timeline and buttons.
//
// Python holds everything; the browser asks for a frame by `frame` and draws what comes in `shown`, one at a time.

const STYLE = `
.roam-jax { font: 13px system-ui, sans-serif; max-width: 960px; }
.roam-jax canvas { display: block; width: 100%; touch-action: none; }
.roam-jax .picture { cursor: crosshair; background: #888; }
.roam-jax.running .picture { cursor: progress; }
.roam-jax .timeline { height: 10px; image-rendering: pixelated; margin: 2px 0; cursor: pointer; }
.roam-jax input[type=range] { width: 100%; margin: 4px 0; box-sizing: border-box; }
.roam-jax .row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.roam-jax .message { white-space: pre-wrap; min-height: 1.4em; margin-top: 4px; }
`;
const TIMELINE = ["#bbb", "#00c868", "#ff2d2d", "#1e6fff"]; // not tracked, tracked, lost, given
const SMALLEST = 2; // image pixels of a side: a click is no box

function element(parent, tag, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
}

function render({ model, el }) {
  const video = model.get("video");
  const root = element(el, "div", { className: "roam-jax" });
  element(root, "style", { textContent: STYLE });
  const picture = element(root, "canvas", { className: "picture", width: video.width, height: video.height });
  const timeline = element(root, "canvas", { className: "timeline", height: 1, title: "green: tracked, red: lost, blue: drawn" });
  const slider = element(root, "input", { type: "range", min: 0, max: video.count - 1, step: 1, ariaLabel: "frame" });
  const row = element(root, "div", { className: "row" });
  const track = element(row, "button", { className: "track" });
  const play = element(row, "button", { className: "play", textContent: "Play" });
  const label = element(row, "label", { textContent: "object " });
  const target = element(label, "select", { className: "target" });
  const remove = element(row, "button", { className: "remove", textContent: "Remove box" });
  const place = element(row, "span", { className: "place" });
  const message = element(root, "div", { className: "message" });

  let image = null; // that of `shown`
  let drawing = null; // corners of the box that is being drawn, in image pixels
  let playing = 0; // timer
  let due = 0; // when the next frame is to be shown
  const gone = new AbortController(); // ends all listeners
  const listen = (node, name, act) => node.addEventListener(name, act, { signal: gone.signal });
  const running = () => model.get("running");

  function colourOf(number) {
    return video.colours[(number - 1) % video.colours.length];
  }

  function drawBox(context, [x, y, w, h], colour, { dashed = false, thick = false } = {}) {
    const unit = Math.max(1, video.width / Math.max(1, picture.clientWidth)); // image pixels in one of the screen
    context.lineWidth = (thick ? 4 : 2) * unit;
    context.strokeStyle = colour;
    context.setLineDash(dashed ? [6 * unit, 6 * unit] : []);
    context.strokeRect(x, y, w, h);
    return unit;
  }

  function draw() {
    const context = picture.getContext("2d");
    const shown = model.get("shown");
    if (image) context.drawImage(image, 0, 0, video.width, video.height);
    for (const said of shown.boxes.map(JSON.parse)) {
      if (said.box.includes(null)) continue;
      const given = shown.given.includes(said.target);
      const colour = said.lost ? video.lost : colourOf(said.target);
      const unit = drawBox(context, said.box, colour, { dashed: said.lost, thick: given });
      const words = `${said.target}${given ? "" : said.lost ? " lost" : ` ${(said.score ?? 0).toFixed(2)}`}`;
      context.font = `bold ${13 * unit}px system-ui, sans-serif`;
      context.fillStyle = colour;
      context.fillText(words, Math.max(0, said.box[0]), Math.max(13 * unit, said.box[1] - 4 * unit));
    }
    if (drawing) drawBox(context, boxOf(drawing), colourOf(model.get("target") + 1), { thick: true });
  }

  async function onShown() {
    const shown = model.get("shown");
    const loaded = await createImageBitmap(new Blob([shown.jpeg], { type: "image/jpeg" }));
    if (model.get("shown") !== shown) return; // a newer one has come
    image = loaded;
    slider.value = shown.number;
    place.textContent = `frame ${shown.number} of ${video.count}, ${(shown.number / video.fps).toFixed(2)} s`;
    root.dataset.shown = shown.number;
    draw();
    if (playing) playing = setTimeout(next, Math.max(0, due - performance.now()));
  }

  function onTimeline() {
    const marks = model.get("timeline");
    const context = timeline.getContext("2d");
    timeline.width = Math.min(video.count, 960);
    const worst = new Uint8Array(timeline.width); // a column stands for several frames
    for (let n = 0; n < marks.byteLength; n++) {
      const column = Math.floor((n * timeline.width) / video.count);
      worst[column] = Math.max(worst[column], marks.getUint8(n));
    }
    worst.forEach((mark, column) => {
      context.fillStyle = TIMELINE[mark];
      context.fillRect(column, 0, 1, 1);
    });
  }

  function onTargets() {
    const objects = model.get("targets");
    target.replaceChildren();
    for (let n = 0; n <= objects; n++) {
      element(target, "option", { value: n, textContent: n === objects ? `${n + 1} (new)` : `${n + 1}` });
    }
    target.value = model.get("target");
  }

  function onRunning() {
    if (running()) pause();
    root.classList.toggle("running", running());
    track.textContent = running() ? "Stop" : "Track";
    for (const control of [slider, play, target, remove]) control.disabled = running();
  }

  function show(number) {
    model.set("frame", Math.max(0, Math.min(video.count - 1, number)));
    model.save_changes();
  }

  function next() {
    const number = model.get("shown").number + 1;
    if (number >= video.count) return pause();
    due = performance.now() + 1000 / video.fps;
    show(number);
  }

  function pause() {
    clearTimeout(playing);
    playing = 0;
    play.textContent = "Play";
  }

  function boxOf([[x0, y0], [x1, y1]]) {
    return [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
  }

  function pointOf(event) {
    const seen = picture.getBoundingClientRect();
    const scaled = (value, low, length, pixels) => Math.max(0, Math.min(pixels, ((value - low) / length) * pixels));
    return [
      scaled(event.clientX, seen.left, seen.width, video.width),
      scaled(event.clientY, seen.top, seen.height, video.height),
    ];
  }

  listen(picture, "pointerdown", (event) => {
    if (running() || event.button !== 0) return;
    pause();
    event.preventDefault();
    picture.setPointerCapture(event.pointerId);
    drawing = [pointOf(event), pointOf(event)];
  });
  listen(picture, "pointermove", (event) => {
    if (!drawing) return;
    drawing[1] = pointOf(event);
    draw();
  });
  listen(picture, "pointerup", (event) => {
    if (!drawing) return;
    const box = boxOf([drawing[0], pointOf(event)]);
    drawing = null;
    draw();
    if (Math.min(box[2], box[3]) >= SMALLEST) model.send({ do: "give", box });
  });
  listen(picture, "pointercancel", () => {
    drawing = null;
    draw();
  });
  listen(timeline, "click", (event) => {
    const seen = timeline.getBoundingClientRect();
    if (!running()) show(Math.floor(((event.clientX - seen.left) / seen.width) * video.count));
  });
  listen(slider, "input", () => {
    pause();
    show(Number(slider.value));
  });
  listen(track, "click", () => model.send({ do: running() ? "stop" : "track" }));
  listen(remove, "click", () => model.send({ do: "take back" }));
  listen(play, "click", () => {
    if (playing) return pause();
    play.textContent = "Pause";
    playing = -1; // until the first frame has come
    due = 0;
    if (model.get("shown").number >= video.count - 1) show(0);
    else next();
  });
  listen(target, "change", () => {
    model.set("target", Number(target.value));
    model.save_changes();
  });

  const changes = {
    "change:shown": onShown,
    "change:timeline": onTimeline,
    "change:targets": onTargets,
    "change:target": onTargets,
    "change:running": onRunning,
    "change:message": () => (message.textContent = model.get("message")),
  };
  for (const [name, act] of Object.entries(changes)) {
    model.on(name, act);
    act();
  }
  return () => {
    pause();
    gone.abort();
    for (const [name, act] of Object.entries(changes)) model.off(name, act);
  };
}

export default { render };
