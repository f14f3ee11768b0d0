// Page: reads the scene, keeps what is shown in step with the form, and turns gestures into views.
const $ = (id) => document.getElementById(id);
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const FEWEST = 60000; // points, which any machine draws while the view moves
const still = matchMedia("(prefers-reduced-motion: reduce)");

async function readData(scene) {
  if (!globalThis.DecompressionStream) throw new Error("This browser is too old for this page: it needs one of 2023 or later.");
  const stream = new Blob([bytesOf($("data").textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const P = scene.pixels, R = scene.results.length;
  return {
    points: scene.results.map((_, i) => new Uint8Array(bytes, 8 * P * i, 8 * P)),
    shared: new Uint8Array(bytes, 8 * P * R, 4 * P),
    difference: scene.heat && new Uint8Array(bytes, 8 * P * R + 4 * P, P),
  };
}

async function start() {
  const scene = JSON.parse($("scene").textContent), photos = new Image();
  photos.src = `data:image/jpeg;base64,${scene.photos.jpeg}`;
  const [data] = await Promise.all([readData(scene), photos.decode()]);
  for (const name in scene.maps) scene.maps[name] = bytesOf(scene.maps[name]);
  const frames = scene.photos.names.length;
  scene.frameColors = scene.photos.names.map((_, i) => [...scene.maps.frame.slice(3 * Math.round((255 * i) / Math.max(frames - 1, 1))).slice(0, 3)]);
  return new Page(scene, data, new View($("view"), scene, data, photos));
}

class Page {
  constructor(scene, data, view) {
    Object.assign(this, { scene, data, view, canvas: $("view"), form: $("form"), fingers: new Map(), touched: false, due: 0, share: 1, moved: -1e9 });
    this.compared = scene.results.length > 1;
    this.viewer = { ...scene.view, target: [0, 0, 0], distance: 2 };
    this.buildForm();
    this.buildStrip();
    this.listen();
    this.read();
    this.fit();
    $("message").hidden = true;
  }

  buildForm() {
    const { scene, form } = this, names = scene.results.map(({ name }) => name);
    const choice = (fieldset, name, options, chosen) => {
      for (const [value, text] of options) {
        const label = document.createElement("label"), input = Object.assign(document.createElement("input"), { type: "radio", name, value });
        input.checked = value === chosen;
        label.append(input, Object.assign(document.createElement("span"), { textContent: text }));
        fieldset.append(label);
      }
    };
    $("shown").hidden = !this.compared;
    choice($("shown"), "shown", [["0", names[0]], ["1", names[1]], ["both", "overlaid"], ["beside", "side by side"]], this.compared ? "beside" : "0");
    const colors = ["image", ...(scene.depth ? ["depth"] : []), "confidence", "frame", ...(scene.heat ? ["difference"] : [])];
    choice($("colors"), "color", colors.map((name) => [name, name]), "image");
    const [low, high] = scene.heights;
    this.heightOf = (percent) => (percent >= 100 ? Infinity : low + ((high - low) * percent) / 100);
    form.drop.value = scene.hidden_percent;
    form.top.value = Math.min(100, Math.round((100 * (scene.top - low)) / (high - low)));
    if (!scene.results[0].cameras.length) for (const name of ["cameras", "photographs"]) form[name].parentElement.hidden = true;
    form.swing.checked = !still.matches;
    $("panel").open = innerWidth > 700;
    const { names: photos } = scene.photos;
    const median = scene.heat ? ` · median difference ${percent(scene.heat.median)} of depth` : "";
    $("facts").textContent = `${photos.length} photograph${photos.length === 1 ? "" : "s"} · ${scene.pixels.toLocaleString("en")} points${median}`;
  }

  buildStrip() {
    const { columns, rows, width, height, jpeg, names } = this.scene.photos, tall = innerWidth > 700 ? 68 : 50, wide = (tall * width) / height;
    const sheet = new CSSStyleSheet();
    sheet.insertRule(`#strip button { background-image: url(data:image/jpeg;base64,${jpeg}); background-size: ${columns * wide}px ${rows * tall}px; width: ${wide + 4}px; height: ${tall + 4}px; }`);
    document.adoptedStyleSheets = [sheet];
    names.forEach((name, i) => {
      const [r, g, b] = this.scene.frameColors[i], button = Object.assign(document.createElement("button"), { type: "button", title: name });
      button.style.cssText = `border-color: rgb(${r} ${g} ${b}); background-position: ${-(i % columns) * wide}px ${-Math.floor(i / columns) * tall}px`;
      button.setAttribute("aria-label", `Go to the camera of ${name}`);
      const badge = Object.assign(document.createElement("b"), { textContent: i + 1 });
      badge.style.cssText = `background: rgb(${r} ${g} ${b}); color: ${0.3 * r + 0.59 * g + 0.11 * b > 127 ? "#101114" : "#fff"}`;
      button.append(badge);
      button.disabled = !this.scene.results[0].cameras.length;
      button.onclick = () => this.flyTo(i);
      $("strip").append(button);
    });
  }

  /** Take the form's values over, and draw. */
  read() {
    const { form, scene } = this, value = (name) => Number(form[name].value);
    const label = (name, text) => (form[name].parentElement.querySelector("output").textContent = text);
    const count = Math.max(1, Math.round((scene.pixels * value("share")) / 100));
    this.shown = form.shown.value;
    this.look = {
      color: form.color.value, hidden: value("drop") / 100, count, size: value("size"), top: this.heightOf(value("top")),
      lines: form.cameras.checked, photos: form.cameras.checked && form.photographs.checked,
    };
    label("drop", `${value("drop")} %`);
    label("share", count.toLocaleString("en"));
    label("size", value("size").toFixed(1));
    label("top", value("top") < 100 ? `${value("top")} %` : "nothing");
    this.drawLegend();
    this.redraw();
  }

  drawLegend() {
    const { scene, look: { color } } = this, last = scene.photos.names.length;
    $("legend").hidden = color === "image";
    if (color === "image") return;
    const ends = {
      depth: () => [`${scene.depth.near.toPrecision(3)}`, `${scene.depth.far.toPrecision(3)} ${scene.unit}`], confidence: () => ["least confident", "most"],
      frame: () => ["first photograph", `last (${last})`], difference: () => ["0", `${percent(scene.heat.limit)} of depth, or more`],
    }[color]();
    const map = scene.maps[color], stops = Array.from({ length: 17 }, (_, i) => 3 * Math.min(255, 16 * i)).map((i) => `rgb(${map[i]} ${map[i + 1]} ${map[i + 2]})`);
    const [bar, first, second] = $("legend").children;
    bar.style.background = `linear-gradient(to right, ${stops})`;
    [first.textContent, second.textContent] = ends;
  }

  /** Viewports in device pixels from the lower left, each with the results in it. */
  viewports() {
    const { width, height } = this.canvas, plain = [0, 0, 0, 0];
    if (!this.compared) return [[[0, 0, width, height], [[0, plain]]]];
    if (this.shown === "both") return [[[0, 0, width, height], [[0, [0.25, 0.62, 1, 0.6]], [1, [1, 0.55, 0.15, 0.6]]]]];
    if (this.shown !== "beside") return [[[0, 0, width, height], [[Number(this.shown), plain]]]];
    const half = width > height ? [Math.floor(width / 2), height] : [width, Math.floor(height / 2)];
    const second = width > height ? [half[0], 0] : [0, 0], first = width > height ? [0, 0] : [0, half[1]];
    return [[[...first, ...half], [[0, plain]]], [[...second, ...half], [[1, plain]]]];
  }

  redraw() {
    if (!this.due) this.due = requestAnimationFrame((now) => { this.due = 0; this.draw(now); });
  }

  draw(now) {
    const { canvas, view, form } = this, ratio = Math.min(devicePixelRatio, 2);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      if (!this.touched) return this.fit();
    }
    if (this.flight) this.step(now);
    if (form.swing.checked) this.viewer.azimuth = this.rest + 0.45 * Math.sin((this.phase += Math.min(now - (this.last ?? now), 100)) / 2600);
    const count = this.paced(now);
    const background = getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map((value) => value / 255);
    const viewports = this.viewports();
    view.clear(background);
    for (const [rectangle, shown] of viewports) view.draw(shown, rectangle, this.viewer, { ...this.look, count, lineWidth: 1.1 * ratio });
    this.placeLabels(viewports, ratio);
    if (this.flight || form.swing.checked) this.redraw();
  }

  /** Points to draw now: while the view moves, as many as this machine draws in a thirtieth of a second. */
  paced(now) {
    const moving = this.flight || this.form.swing.checked || now - this.moved < 200, took = now - (this.last ?? -1e9);
    if (moving && took < 2e4 && this.wasMoving) this.share = Math.min(1, Math.max(FEWEST / this.look.count, this.share * Math.min(1.2, Math.max(0.1, 33 / took))));
    Object.assign(this, { last: now, wasMoving: moving });
    clearTimeout(this.settling);
    if (moving && this.share < 1) this.settling = setTimeout(() => this.redraw(), 250);
    return Math.max(1, Math.round(this.look.count * (moving ? this.share : 1)));
  }

  placeLabels(viewports, ratio) {
    const texts = !this.compared ? [] : this.shown === "both" ? [["blue: ", 0], ["orange: ", 1]] : viewports.map(([, [[index]]]) => ["", index]);
    const labels = $("labels");
    while (labels.children.length < texts.length) labels.append(document.createElement("span"));
    [...labels.children].forEach((label, i) => {
      label.hidden = i >= texts.length;
      if (label.hidden) return;
      const [rectangle] = viewports[Math.min(i, viewports.length - 1)], apart = this.shown === "both" ? (i ? 1 : -1) * 70 : 0;
      label.textContent = texts[i][0] + this.scene.results[texts[i][1]].name;
      label.style.left = `${(rectangle[0] + rectangle[2] / 2) / ratio + apart}px`;
      label.style.bottom = `${rectangle[1] / ratio + (rectangle[1] ? 8 : $("strip").offsetHeight + 8)}px`;
    });
  }

  /** Place of a pixel's point in the first result that is shown. */
  place(pixel, result = this.shown === "1" ? 1 : 0) {
    const { low, size } = this.scene.box, bytes = this.data.points[result], at = 8 * pixel;
    return [0, 1, 2].map((k) => low[k] + (size[k] * (bytes[at + 2 * k] + 256 * bytes[at + 2 * k + 1])) / 65535);
  }

  isShown(pixel, place) {
    return this.data.points[this.shown === "1" ? 1 : 0][8 * pixel + 6] / 255 >= this.look.hidden && place[1] <= this.look.top;
  }

  /** Move to where the cameras and almost all points are seen. */
  fit() {
    const { viewer } = this, { right, up, back } = axes(viewer), [[, , width, height]] = this.viewports()[0], { x, y } = lens(viewer, width, height);
    const places = [], step = Math.ceil(this.scene.pixels / 4000);
    for (let i = 0; i < this.scene.pixels; i += step) {
      const place = this.place(i);
      if (this.isShown(i, place)) places.push(place);
    }
    if (!places.length) return this.redraw();
    const ends = [0, 1, 2].map((k) => { const s = places.map((place) => place[k]).sort((a, b) => a - b); return [s[Math.floor(0.005 * s.length)], s[Math.ceil(0.995 * s.length) - 1]]; });
    const seen = places.map((place) => place.map((value, k) => Math.max(ends[k][0], Math.min(ends[k][1], value))));
    seen.push(...this.scene.results[0].cameras.map(({ position }) => position));
    const largest = (value) => seen.reduce((most, place) => Math.max(most, value(place)), -Infinity);
    // A place is in the picture if its depth plus steep * |its x - the eye's| is below the eye's.
    const [[sideways, away], [upward, further]] = [[right, x], [up, y]].map(([axis, share]) => {
      const steep = 1.1 * share, one = largest((p) => dot(back, p) + steep * dot(axis, p)), other = largest((p) => dot(back, p) - steep * dot(axis, p));
      return [(one - other) / 2 / steep, (one + other) / 2];
    });
    const depth = dot(back, ends.map(([low, high]) => (low + high) / 2)), eye = Math.max(away, further, depth + 0.05);
    const centered = (axis, at) => {
      for (let round = 0; round < 8; round++) {
        const slope = (sign) => largest((p) => (sign * (dot(axis, p) - at)) / (eye - dot(back, p)));
        at += ((slope(1) - slope(-1)) / 2) * (eye - largest((p) => dot(back, p)));
      }
      return at;
    };
    viewer.target = add(add(back.map((value) => value * depth), right, centered(right, sideways)), up, centered(up, upward));
    viewer.distance = eye - depth;
    Object.assign(this, { rest: viewer.azimuth, phase: 0 });
    this.redraw();
  }

  flyTo(frame) {
    const { position, forward } = this.scene.results[this.shown === "1" ? 1 : 0].cameras[frame];
    const elevation = -Math.asin(Math.max(-0.999, Math.min(0.999, forward[1]))), distance = 0.5;
    let azimuth = Math.atan2(-forward[0], -forward[2]);
    azimuth += 2 * Math.PI * Math.round((this.viewer.azimuth - azimuth) / (2 * Math.PI));
    this.touch();
    document.querySelectorAll("#strip button").forEach((button, i) => button.setAttribute("aria-pressed", i === frame));
    this.fly({ azimuth, elevation, distance, target: add(position, forward, distance) });
  }

  fly(to) {
    this.flight = { from: { ...this.viewer }, to, begun: null };
    this.redraw();
  }

  step(now) {
    const { from, to } = this.flight, begun = (this.flight.begun ??= now), t = still.matches ? 1 : Math.min(1, (now - begun) / 700), s = t * t * (3 - 2 * t);
    for (const key of ["azimuth", "elevation", "distance"]) this.viewer[key] = from[key] + s * (to[key] - from[key]);
    this.viewer.target = add(from.target, add(to.target, from.target, -1), s);
    if (t === 1) this.flight = null;
  }

  /** The user moves the view: nothing else does any more. */
  touch() {
    Object.assign(this, { touched: true, flight: null, moved: performance.now() });
    this.form.swing.checked = false;
    document.querySelectorAll("#strip [aria-pressed=true]").forEach((button) => button.setAttribute("aria-pressed", false));
  }

  listen() {
    const { canvas, form, fingers } = this;
    form.oninput = ({ target }) => {
      if (target.name === "swing") Object.assign(this, { rest: this.viewer.azimuth, phase: 0, last: undefined });
      this.read();
      if (target.name === "shown" && !this.touched) this.fit();
    };
    form.onsubmit = (event) => event.preventDefault();
    $("reset").onclick = () => { this.touch(); Object.assign(this.viewer, this.scene.view); this.touched = false; this.fit(); };
    canvas.oncontextmenu = (event) => event.preventDefault();
    canvas.onpointerdown = (event) => {
      this.touch();
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("held");
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, moves: event.button === 2 || event.button === 1 || event.shiftKey });
    };
    canvas.onpointerup = canvas.onpointercancel = (event) => { fingers.delete(event.pointerId); canvas.classList.toggle("held", fingers.size > 0); };
    canvas.onpointermove = (event) => this.drag(event);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.touch();
      this.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.04 : 0.0013)));
    }, { passive: false });
    canvas.ondblclick = (event) => this.pick(event.clientX, event.clientY);
    canvas.addEventListener("webglcontextlost", () => location.reload());
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  drag(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) return;
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y], others = [...this.fingers.values()].filter((other) => other !== finger);
    if (others.length) {
      const apart = (at) => Math.hypot(at.x - others[0].x, at.y - others[0].y);
      this.zoom(Math.max(apart(finger), 1) / Math.max(apart({ x: event.clientX, y: event.clientY }), 1));
    }
    if (others.length || finger.moves) this.move(dx / (others.length + 1), dy / (others.length + 1));
    else {
      this.viewer.azimuth -= 0.006 * dx;
      this.viewer.elevation = Math.max(-1.55, Math.min(1.55, this.viewer.elevation + 0.006 * dy));
    }
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    this.moved = performance.now();
    this.redraw();
  }

  zoom(factor) {
    this.viewer.distance = Math.max(0.01, Math.min(20, this.viewer.distance * factor));
    this.redraw();
  }

  move(dx, dy) {
    const { right, up } = axes(this.viewer), [[, , width, height]] = this.viewports()[0], ratio = this.canvas.width / this.canvas.clientWidth;
    const unit = (this.viewer.distance * ratio) / lens(this.viewer, width, height).focal;
    this.viewer.target = add(add(this.viewer.target, right, -dx * unit), up, dy * unit);
  }

  /** Turn around the nearest point under the pointer from now on. */
  pick(clientX, clientY) {
    const ratio = this.canvas.width / this.canvas.clientWidth, [px, py] = [clientX * ratio, this.canvas.height - clientY * ratio];
    const [[left, bottom, width, height]] = this.viewports().find(([[l, b, w, h]]) => px >= l && px < l + w && py >= b && py < b + h);
    const { clip } = lens(this.viewer, width, height), aim = [(2 * (px - left)) / width - 1, (2 * (py - bottom)) / height - 1];
    let best = Infinity, found = null;
    for (let i = 0; i < this.look.count; i++) {
      const place = this.place(i), [x, y, w] = [0, 1, 3].map((k) => clip[k] * place[0] + clip[4 + k] * place[1] + clip[8 + k] * place[2] + clip[12 + k]);
      const off = Math.hypot((x / w - aim[0]) * width, (y / w - aim[1]) * height) / 2;
      if (w > 0 && off < 14 * ratio && w * (1 + 0.02 * off) < best && this.isShown(i, place)) [best, found] = [w * (1 + 0.02 * off), place];
    }
    if (found) this.fly({ ...this.viewer, target: found });
  }
}

const percent = (share) => `${(100 * share).toPrecision(2)} %`;

start().then(
  (page) => { globalThis.qvggtPage = page; document.documentElement.dataset.ready = ""; },
  (error) => { $("message").textContent = error.message; $("message").hidden = false; console.error(error); },
);
