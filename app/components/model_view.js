// One canvas as large as what is visible of all maps. Maps are coloured into an atlas in slices, the visible ones first,
// and copied from there whenever the view moves.
const SMALLEST = 52, IDEAL = 112, LARGEST = 132, GAP = 10, NAME = 20, MARGIN = 4;
// Milliseconds of one slice of drawing, and its name in the browser's performance interface.
const SLICE = 8, MEASURE = "workbench model view";
const SCALE_WIDTH = 220, SCALE_HEIGHT = 30;
// Of the log scale.
const DECADES = 4;
const WAITING = "#8888";

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".model-view");
  const [box, sheet, canvas, scale] = [".maps", ".sheet", "canvas.view", "canvas.scale"].map((name) => root.querySelector(name));
  const status = root.querySelector("output"), button = root.querySelector("button");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.note;
  const heads = data.heads; // [place in the buffer, layer, head]
  const named = ([, layer, index]) => `${layer}.${index}`;
  const indexOf = (pair) => heads.findIndex(([, layer, index]) => layer === pair[0] && index === pair[1]);

  // A head that was opened here is framed at once, until the server answers or another is opened elsewhere.
  if (String(data.selected) !== root.answered) root.opened = null;
  root.answered = String(data.selected);
  let selected = indexOf(root.opened || data.selected), hover = -1;
  if (root.order !== String(heads)) Object.assign(root, { order: String(heads), cursor: selected });

  const shades = new Uint32Array(256), colours = data.colours;
  const colour = (share) => {
    const at = share * (colours.length - 1), i = Math.min(colours.length - 2, Math.floor(at));
    return colours[i].map((c, k) => Math.round(c + (colours[i + 1][k] - c) * (at - i)));
  };
  // From the square root of a weight, which a byte holds, to a share of the scale: colour_scale.py.
  const share = {
    linear: (root) => root ** 2,
    "square root": (root) => root,
    log: (root) => Math.max(0, 1 + (2 * Math.log10(root)) / DECADES),
  }[data.scale];
  for (let byte = 0; byte < 256; byte++) {
    const [r, g, b] = colour(share(byte / 255));
    shades[byte] = (255 << 24) | (b << 16) | (g << 8) | r;
  }

  // --- the atlas

  const atlas = () => {
    const maps = window.workbenchPatterns?.get(data.id), key = `${data.id} ${data.scale}`;
    if (!maps) return null;
    if (root.atlas?.key === key) return root.atlas;
    const side = data.side, n = maps.length / (side * side), across = Math.max(1, Math.floor(1024 / side));
    const picture = document.createElement("canvas");
    picture.width = Math.min(n, across) * side;
    picture.height = Math.ceil(n / across) * side;
    const g = picture.getContext("2d");
    const image = g.createImageData(side, side);
    const pixels = new Uint32Array(image.data.buffer);
    root.atlas = { key, maps, side, across, picture, g, image, pixels, done: new Uint8Array(n), n };
    return root.atlas;
  };
  const paint = (all, place) => {
    const { maps, side, across, g, image, pixels, done } = all, size = side * side;
    for (let i = 0, from = place * size; i < size; i++) pixels[i] = shades[maps[from + i]];
    g.putImageData(image, (place % across) * side, Math.floor(place / across) * side);
    done[place] = 1;
  };
  const measured = (draw) => {
    const start = performance.now();
    draw(start + SLICE);
    performance.measure(MEASURE, { start, end: performance.now() });
    performance.clearMeasures(MEASURE); // observers have it
  };

  // --- where the maps are

  let rows = [], places = [], size = 0;
  const arrange = () => {
    const width = box.clientWidth || 600;
    // A layer's heads stand in one row, or in rows that are about as long.
    const most = data.by_layer ? data.per_layer : heads.length;
    const room = Math.max(1, Math.min(most, Math.floor(width / (data.by_layer ? SMALLEST : IDEAL))));
    const fit = data.by_layer ? Math.ceil(most / Math.ceil(most / room)) : room;
    size = Math.min(LARGEST, Math.floor(width / fit));
    rows = [];
    places = heads.map((head, i) => {
      const last = rows[rows.length - 1];
      const isNew = !last || last.length === fit || (data.by_layer && heads[last[0]][1] !== head[1]);
      if (isNew) rows.push([]);
      rows[rows.length - 1].push(i);
      return [rows.length - 1, rows[rows.length - 1].length - 1];
    });
    sheet.style.height = `${rows.length * (size - GAP + NAME)}px`;
  };
  const height = () => size - GAP + NAME;
  const at = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const x = event.clientX - bounds.left, y = event.clientY - bounds.top + box.scrollTop;
    return rows[Math.floor(y / height())]?.[Math.floor(x / size)] ?? -1;
  };
  const show = (i) => {
    const top = places[i][0] * height();
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height() > box.scrollTop + box.clientHeight) box.scrollTop = top + height() - box.clientHeight;
  };

  // --- drawing

  const draw = (deadline) => {
    const ratio = window.devicePixelRatio || 1, width = box.clientWidth, visible = box.clientHeight, top = box.scrollTop;
    const [w, h] = [Math.round(width * ratio), Math.round(visible * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      [canvas.width, canvas.height] = [w, h];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${visible}px`];
    }
    const g = canvas.getContext("2d"), all = atlas(), edge = size - GAP;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, visible);
    g.imageSmoothingEnabled = false;
    const text = getComputedStyle(root).color;
    g.font = "11px sans-serif";
    g.textAlign = "center";
    g.textBaseline = "middle";
    const first = Math.floor(top / height()), end = Math.min(rows.length, Math.ceil((top + visible) / height()));
    let missing = false;
    for (let row = first; row < end; row++) {
      const y = row * height() - top + MARGIN;
      rows[row].forEach((i, column) => {
        const [place] = heads[i], x = column * size + MARGIN;
        if (all && !all.done[place] && performance.now() < deadline) paint(all, place);
        if (all?.done[place]) {
          const { side, across, picture } = all;
          const [left, upper] = [(place % across) * side, Math.floor(place / across) * side];
          g.drawImage(picture, left, upper, side, side, x, y, edge, edge);
        } else {
          missing = missing || all !== null;
          g.fillStyle = WAITING;
          g.fillRect(x, y, edge, edge);
        }
        g.fillStyle = text;
        const value = data.by_layer ? "" : `  ${data.values[i]}`;
        g.fillText(named(heads[i]) + value, x + edge / 2, y + edge + NAME / 2, size - 2);
        // Frames stand around a map and cover none of it.
        const frame = (style, thick) => {
          g.strokeStyle = style;
          g.lineWidth = thick;
          g.strokeRect(x - 2, y - 2, edge + 4, edge + 4);
        };
        if (i === hover) frame(text, 1);
        if (i === selected) {
          frame("#ffffff", 4);
          frame("#000000", 2);
        }
        if (i === root.cursor && i !== selected) frame("#e69f00", 2);
      });
    }
    return missing;
  };
  const schedule = () => {
    if (root.frame) return;
    root.frame = requestAnimationFrame(() => {
      root.frame = 0;
      measured((deadline) => {
        if (draw(deadline)) schedule();
      });
    });
  };
  // The maps out of sight are coloured while the browser is idle.
  const prepare = (idle) => {
    root.idle = 0;
    const all = atlas();
    if (!all) return;
    let place = all.done.indexOf(0);
    measured((deadline) => {
      const end = Math.min(deadline, performance.now() + (idle?.timeRemaining?.() ?? SLICE));
      while (place >= 0 && performance.now() < end) {
        paint(all, place);
        place = all.done.indexOf(0, place);
      }
    });
    if (place >= 0) later();
  };
  const later = () => {
    root.idle = root.idle || (window.requestIdleCallback ? requestIdleCallback(prepare) : setTimeout(prepare, 30));
  };
  const redraw = () => {
    arrange();
    schedule();
    later();
  };

  const drawScale = () => {
    const ratio = window.devicePixelRatio || 1, g = scale.getContext("2d");
    [scale.width, scale.height] = [SCALE_WIDTH * ratio, SCALE_HEIGHT * ratio];
    [scale.style.width, scale.style.height] = [`${SCALE_WIDTH}px`, `${SCALE_HEIGHT}px`];
    scale.setAttribute("aria-label", `Colours: attention weight from 0 to 1, ${data.scale}`);
    g.scale(ratio, ratio);
    const left = 6, wide = SCALE_WIDTH - 2 * left;
    for (let x = 0; x < wide; x++) {
      g.fillStyle = `rgb(${colour(x / wide).join(",")})`;
      g.fillRect(left + x, 2, 1.5, 9);
    }
    g.fillStyle = getComputedStyle(root).color;
    g.font = "11px sans-serif";
    g.textBaseline = "middle";
    for (const [at, text] of data.ticks) {
      const x = left + wide * at;
      g.fillRect(Math.min(x, left + wide - 1), 11, 1, 4);
      g.textAlign = at === 0 ? "left" : at === 1 ? "right" : "center";
      g.fillText(text, at === 0 ? 0 : at === 1 ? SCALE_WIDTH : x, 22);
    }
  };
  const announce = (i) => {
    const open = i >= 0 && i === selected ? ", open above" : "";
    status.textContent = i >= 0 ? `${named(heads[i])}: ${data.score}, ${data.texts[i]}${open}` : "";
  };

  // --- choosing

  const open = (i) => {
    selected = root.cursor = i;
    const [, layer, index] = heads[i];
    root.opened = [layer, index];
    button.hidden = false;
    announce(i);
    schedule();
    setTriggerValue("picked", [layer, index]);
  };
  const move = (i) => {
    root.cursor = i;
    show(i);
    announce(i);
    schedule();
  };
  canvas.onclick = (event) => {
    const i = at(event);
    if (i >= 0) open(i);
    root.focus({ preventScroll: true });
  };
  canvas.onmousemove = (event) => {
    const i = at(event);
    if (i === hover) return;
    hover = i;
    announce(i >= 0 ? i : root.cursor);
    schedule();
  };
  canvas.onmouseleave = () => {
    hover = -1;
    announce(root.cursor);
    schedule();
  };
  box.onscroll = schedule;
  const MOVES = { ArrowLeft: -1, ArrowRight: 1 }, ROWS = { ArrowUp: -1, ArrowDown: 1 };
  root.onkeydown = (event) => {
    if (event.target !== root) return;
    const cursor = Math.max(0, root.cursor), [row, column] = places[cursor];
    let to = null;
    if (event.key in MOVES) to = cursor + MOVES[event.key];
    else if (event.key in ROWS) {
      const other = rows[row + ROWS[event.key]];
      to = other ? other[Math.min(column, other.length - 1)] : cursor;
    } else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = heads.length - 1;
    else if (event.key === "Enter" || event.key === " ") open(cursor);
    else return;
    event.preventDefault();
    if (to !== null) move(Math.min(heads.length - 1, Math.max(0, to)));
  };
  button.onclick = () => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const page = root.getRootNode().host?.closest("[data-testid=stMain]");
    page?.scrollTo({ top: 0, behavior: still ? "auto" : "smooth" });
  };

  // --- of the previous rendering only the last one calls back
  root.stop?.();
  const watcher = new ResizeObserver(redraw);
  watcher.observe(root);
  window.addEventListener("workbench-patterns", redraw);
  root.stop = () => {
    watcher.disconnect();
    window.removeEventListener("workbench-patterns", redraw);
    if (root.frame) cancelAnimationFrame(root.frame);
    if (root.idle) (window.cancelIdleCallback ?? clearTimeout)(root.idle);
    root.frame = root.idle = 0;
  };
  drawScale();
  redraw();
  announce(root.cursor);
  return () => root.stop();
}
