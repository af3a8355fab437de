// One canvas: destinations along y, sources along x, a colour bar with true values below. Cells that are smaller than a
// pixel are pooled: each pixel shows the largest magnitude below it.
const LARGEST_CELL = 28, MAX_SIDE = 460, LABELS = 110, BAR = 10, TOP = 8, DRAG = 4;
// Milliseconds in which the server shows what was zoomed into, or is not going to.
const PATIENCE = 10000;
// Pixels of a cell at least, so that there are gaps between cells.
const GAPS = 7;
// Colours of a picture.
const SHADES = 1024;
const MARK = "#e69f00";

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".pattern");
  const canvas = root.querySelector("canvas"), status = root.querySelector("output"), all = root.querySelector("button");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.subtitle;
  if (root.source !== data.values) {
    const letters = atob(data.values), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    Object.assign(root, { source: data.values, values: new Float32Array(bytes.buffer), image: null });
  }
  if (root.maskSource !== data.mask) {
    const bits = Uint8Array.from(atob(data.mask), (letter) => letter.charCodeAt(0));
    Object.assign(root, { maskSource: data.mask, mask: bits, image: null });
  }
  const isMasked = (cell) => ((root.mask[cell >> 3] >> (7 - (cell & 7))) & 1) === 1;
  const values = root.values, rows = data.rows.length, columns = data.columns.length;
  // A range that was zoomed into and is not shown yet, from which the next key goes on.
  const waiting = root.waiting, isShown = String([data.first, data.end]) === String([waiting?.first, waiting?.end]);
  if (isShown || waiting?.length !== data.length || Date.now() - waiting.when > PATIENCE) root.waiting = null;
  const isWhole = data.end[0] - data.first[0] === data.length && data.end[1] - data.first[1] === data.length;
  all.hidden = isWhole;
  root.drawn = { values, rows: data.rows, columns: data.columns, title: data.title, limit: data.scale.limit };
  if (root.centre) {
    const isIn = root.centre.every((p, k) => p >= data.first[k] && p < data.end[k]);
    root.cursor = isIn ? root.centre.map((p, k) => Math.floor((p - data.first[k]) / data.size)) : null;
  }
  let cursor = root.cursor && root.cursor[0] < rows && root.cursor[1] < columns ? root.cursor : null;
  let hover = null, dragged = null, side = {}, area = {};

  const { kind, limit, diverging } = data.scale;
  const share = (value) => {
    let x = Math.min(Math.abs(value) / limit, 1);
    if (kind === "square root") x = Math.sqrt(x);
    if (kind === "log") x = Math.max(1 + Math.log10(Math.max(x, 1e-9)) / data.decades, 0);
    return diverging ? Math.sign(value) * x : value < 0 ? 0 : x;
  };
  const blank = data.blank.match(/\w\w/g).map((pair) => parseInt(pair, 16));
  const ofShare = (s) => {
    const at = (diverging ? (s + 1) / 2 : s) * (data.colours.length - 1), i = Math.min(data.colours.length - 2, Math.floor(at));
    return data.colours[i].map((c, k) => Math.round(c + (data.colours[i + 1][k] - c) * (at - i)));
  };
  const number = (v) => (Number.isNaN(v) ? "no value" : Number(v.toPrecision(3)).toString().replace("-", "\u2212"));
  const short = (text) => (text.length > 16 ? `${text.slice(0, 15)}…` : text);
  const name = (axis, i) => {
    const first = data.first[axis] + i * data.size, last = Math.min(first + data.size, data.end[axis]) - 1;
    return data.size === 1 ? (axis ? data.columns : data.rows)[i] : first === last ? `${first}` : `${first}–${last}`;
  };

  // The cells as an image: one pixel each where they are larger than pixels, else pooled to the pixels there are. It is
  // made again only where something of it changes.
  const picture = (wide, high) => {
    const w = Math.min(columns, Math.max(1, Math.round(wide))), h = Math.min(rows, Math.max(1, Math.round(high)));
    const what = [w, h, kind, limit, diverging].join();
    if (root.image?.what === what) return root.image.layer;
    const low = diverging ? -1 : 0, last = SHADES - 1;
    const shades = Array.from({ length: SHADES }, (_, i) => ofShare(low + ((1 - low) * i) / last));
    const pooled = new Float32Array(w * h).fill(NaN), isSeen = new Uint8Array(w * h);
    for (let i = 0; i < rows; i++) {
      const y = Math.min(h - 1, Math.floor((i * h) / rows));
      for (let j = 0; j < columns; j++) {
        if (isMasked(i * columns + j)) continue;
        const at = y * w + Math.min(w - 1, Math.floor((j * w) / columns)), value = values[i * columns + j];
        isSeen[at] = 1;
        if (Number.isNaN(pooled[at]) || Math.abs(value) > Math.abs(pooled[at])) pooled[at] = value;
      }
    }
    const image = new ImageData(w, h), pixels = image.data;
    for (let at = 0; at < pooled.length; at++) {
      if (!isSeen[at]) continue; // the page shows through where a mask hides all
      const value = pooled[at];
      const colour = Number.isNaN(value) ? blank : shades[Math.round(((share(value) - low) / (1 - low)) * last)];
      for (let k = 0; k < 3; k++) pixels[4 * at + k] = colour[k];
      pixels[4 * at + 3] = 255;
    }
    const layer = document.createElement("canvas");
    [layer.width, layer.height] = [w, h];
    layer.getContext("2d").putImageData(image, 0, 0);
    root.image = { what, layer };
    return layer;
  };

  let cells = null;
  const lay = () => {
    const width = root.clientWidth || 500, g = canvas.getContext("2d");
    g.font = "11px sans-serif";
    const widest = (labels) => Math.min(LABELS, width / 4, Math.max(24, ...labels.map((text) => g.measureText(short(text)).width)));
    const left = 20 + widest(data.rows), below = 34 + widest(data.columns) * 0.8;
    const cell = Math.min(LARGEST_CELL, (width - left - 12) / columns, MAX_SIDE / Math.max(rows, columns));
    side = { width, left, below, cell, wide: cell * columns, high: cell * rows };
    side.height = TOP + side.high + below + BAR + 34;
    area = { x: left, y: TOP, w: side.wide, h: side.high };
    root.place = { ...area, cell };
    const ratio = window.devicePixelRatio || 1;
    cells = picture(area.w * ratio, area.h * ratio);
  };

  const draw = () => {
    const ratio = window.devicePixelRatio || 1, g = canvas.getContext("2d");
    canvas.width = side.width * ratio;
    canvas.height = side.height * ratio;
    canvas.style.height = `${side.height}px`;
    g.scale(ratio, ratio);
    const style = getComputedStyle(root), text = style.color;
    g.imageSmoothingEnabled = false;
    g.drawImage(cells, area.x, area.y, area.w, area.h);
    if (side.cell >= GAPS) {
      g.strokeStyle = style.getPropertyValue("--st-background-color") || "#ffffff";
      g.lineWidth = 1;
      g.beginPath();
      for (let j = 0; j <= columns; j++) g.rect(area.x + j * side.cell, area.y, 0, area.h);
      for (let i = 0; i <= rows; i++) g.rect(area.x, area.y + i * side.cell, area.w, 0);
      g.stroke();
    } else {
      g.strokeStyle = "#808080";
      g.lineWidth = 1;
      g.strokeRect(area.x - 0.5, area.y - 0.5, area.w + 1, area.h + 1);
    }
    g.font = "11px sans-serif";
    g.fillStyle = text;
    g.textBaseline = "middle";
    g.textAlign = "right";
    const step = Math.max(1, Math.ceil(13 / side.cell));
    for (let i = 0; i < rows; i += step) g.fillText(short(data.rows[i]), area.x - 5, area.y + (i + 0.5) * side.cell);
    for (let j = 0; j < columns; j += step) {
      g.save();
      g.translate(area.x + (j + 0.5) * side.cell, area.y + area.h + 7);
      g.rotate(-Math.PI / 3.4);
      g.fillText(short(data.columns[j]), 0, 0);
      g.restore();
    }
    const foot = area.y + area.h + side.below - 14;
    g.textAlign = "center";
    g.fillText(data.x_title, Math.max(area.x + area.w / 2, 90), foot);
    g.save();
    g.translate(7, area.y + Math.max(area.h / 2, 50));
    g.rotate(-Math.PI / 2);
    g.fillText(data.y_title, 0, 0);
    g.restore();
    bar(g, foot + 14, text);
    const asked = [data.asked[0], data.asked[1]];
    if (asked[0] !== null) outline(g, area.x, area.y + asked[0] * side.cell, area.w, side.cell);
    if (asked[1] !== null) outline(g, area.x + asked[1] * side.cell, area.y, side.cell, area.h);
    const at = hover || (root.contains(root.getRootNode().activeElement) || root.matches(":focus") ? cursor : null);
    if (at) {
      const [i, j] = at;
      g.strokeStyle = text;
      g.lineWidth = 1;
      g.strokeRect(area.x, area.y + i * side.cell, area.w, side.cell);
      g.strokeRect(area.x + j * side.cell, area.y, side.cell, area.h);
    }
    if (dragged && dragged.moved) {
      const [a, b] = [dragged.from, dragged.to];
      g.fillStyle = "rgba(230,159,0,0.25)";
      const [i, j] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
      const h = Math.abs(a[0] - b[0]) + 1, w = Math.abs(a[1] - b[1]) + 1;
      g.fillRect(area.x + j * side.cell, area.y + i * side.cell, w * side.cell, h * side.cell);
    }
  };
  const outline = (g, x, y, w, h) => {
    g.strokeStyle = MARK;
    g.lineWidth = 2;
    g.strokeRect(x - 0.5, y - 0.5, Math.max(w, 2) + 1, Math.max(h, 2) + 1);
  };
  const bar = (g, y, text) => {
    const wide = Math.min(260, side.width - 60), x = Math.min(area.x, side.width - wide - 20), low = diverging ? -1 : 0;
    for (let i = 0; i < wide; i++) {
      g.fillStyle = `rgb(${ofShare(low + ((1 - low) * i) / wide).join(",")})`;
      g.fillRect(x + i, y, 1.5, BAR);
    }
    g.fillStyle = text;
    g.textAlign = "center";
    let last = -Infinity;
    const places = data.ticks.map(([s, label]) => [x + (wide * (s - low)) / (1 - low), label, g.measureText(label).width]);
    for (const [at, label, w] of [places[places.length - 1], ...places.slice(0, -1)]) {
      const isEnd = at === x + wide;
      if (!isEnd && (at - w / 2 < last + 4 || at + w / 2 > x + wide - 22)) continue;
      g.fillRect(at - 0.5, y + BAR, 1, 3);
      g.fillText(label, at, y + BAR + 9);
      if (!isEnd) last = at + w / 2;
    }
  };
  const announce = (at) => {
    if (!at) return void (status.textContent = `${data.units}. ${data.hint}`);
    const value = values[at[0] * columns + at[1]];
    const largest = data.size === 1 ? "" : "largest ";
    const hidden = isMasked(at[0] * columns + at[1]);
    status.textContent = `${name(0, at[0])} → ${name(1, at[1])}: ${hidden ? data.masked : largest + number(value)}`;
  };
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top - area.y) / side.cell), j = Math.floor((event.clientX - box.left - area.x) / side.cell);
    return i >= 0 && i < rows && j >= 0 && j < columns ? [i, j] : null;
  };
  const pick = (at) => {
    if (!data.picks) return;
    root.cursor = cursor = at;
    root.centre = null;
    data.asked = at;
    draw();
    announce(at);
    setTriggerValue("picked", [at, data.first, data.end]); // of what is shown: the server may be further
  };
  // Positions of a cell, first to last.
  const positionsOf = (axis, i) => {
    const first = data.first[axis] + i * data.size;
    return [first, Math.min(first + data.size, data.end[axis]) - 1];
  };
  const show = (first, end) => {
    root.waiting = { first, end, length: data.length, when: Date.now() };
    if (first[0] + first[1] === 0 && Math.min(...end) === data.length) setTriggerValue("reset", true);
    else setTriggerValue("zoomed", end.map((stop, k) => [first[k], stop - 1]));
  };
  const zoom = (a, b) => {
    const sides = [0, 1].map((k) => [positionsOf(k, Math.min(a[k], b[k]))[0], positionsOf(k, Math.max(a[k], b[k]))[1]]);
    root.cursor = root.centre = null;
    show(sides.map(([low]) => low), sides.map(([, high]) => high + 1));
  };
  // A quarter of the range to each side of the cell at the cursor, which stays the middle of what further keys show.
  const zoomIn = (at) => {
    const { first, end } = root.waiting || data;
    const middle = [0, 1].map((k) => {
      const cell = root.waiting && root.centre ? [root.centre[k], root.centre[k]] : positionsOf(k, at[k]);
      return cell.map((position) => Math.min(Math.max(position, first[k]), end[k] - 1));
    });
    const reach = end.map((stop, k) => Math.max(2, Math.floor((stop - first[k]) / 4)));
    root.centre = middle.map(([low]) => low);
    show(
      middle.map(([low], k) => Math.max(first[k], low - reach[k])),
      middle.map(([, high], k) => Math.min(end[k], high + reach[k] + 1)),
    );
  };
  const zoomOut = () => show([0, 0], [data.length, data.length]);
  let frame = 0;
  const redraw = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  };
  canvas.onpointerdown = (event) => {
    const at = cellAt(event);
    if (at) dragged = { from: at, to: at, moved: false, x: event.clientX, y: event.clientY };
    root.focus({ preventScroll: true });
  };
  canvas.onpointermove = (event) => {
    hover = cellAt(event);
    if (dragged && hover && data.zooms && event.pointerType === "mouse") {
      dragged.moved ||= Math.hypot(event.clientX - dragged.x, event.clientY - dragged.y) > DRAG;
      dragged.to = hover;
    }
    redraw();
    announce(hover || cursor);
  };
  canvas.onpointerup = (event) => {
    const drag = dragged;
    dragged = null;
    if (!drag) return;
    if (drag.moved && String(drag.from) !== String(drag.to)) zoom(drag.from, drag.to);
    else if (cellAt(event)) pick(cellAt(event));
    redraw();
  };
  canvas.onpointerleave = () => {
    hover = dragged = null;
    redraw();
    announce(cursor);
  };
  all.onclick = zoomOut;
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  root.onkeydown = (event) => {
    if (event.target === all || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = cursor || [data.asked[0] ?? rows - 1, data.asked[1] ?? 0], move = MOVES[event.key];
    if (move) {
      cursor = [Math.min(rows - 1, Math.max(0, at[0] + move[0])), Math.min(columns - 1, Math.max(0, at[1] + move[1]))];
      root.cursor = cursor;
      root.centre = null;
    } else if (event.key === "Enter") pick(at);
    else if (event.key === "+" && data.zooms) zoomIn(at);
    else if ((event.key === "-" || event.key === "Escape") && (root.waiting || !isWhole)) zoomOut();
    else return;
    event.preventDefault();
    redraw();
    announce(cursor || at);
  };
  root.onfocus = root.onblur = redraw;
  root.watcher?.disconnect(); // of the previous rendering: only the last one calls back below
  root.watcher = new ResizeObserver(() => {
    if (root.clientWidth === side.width) return;
    lay();
    draw();
  });
  root.watcher.observe(root);
  lay();
  draw();
  announce(cursor);
  return () => root.watcher.disconnect();
}
