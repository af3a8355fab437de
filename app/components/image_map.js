// Two pictures side by side: the image, on which a position is picked, and what the head attends to from there. Above
// them are the positions that are no patches. Where the whole pattern is here, the map follows the pointer on the image.
const GAP = 16, LARGEST = 300, BOX = 20, BAR = 10, BAR_AREA = 32, MARK = "#d55e00";
// Milliseconds in which the server answers a pick, or is not going to.
const PATIENCE = 10000;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".image-map");
  const canvas = root.querySelector("canvas"), status = root.querySelector("output");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.note;
  if (root.source !== data.rows) Object.assign(root, { source: data.rows, weights: floats(data.rows) });
  const [rows, columns] = data.grid, n = data.labels.length, added = data.added.length;
  // As in the grid of heads: the last pick stays selected until the server answers it.
  let sent = (root.sent || []).filter((pick) => Date.now() - pick.when < PATIENCE);
  if (data.selected !== root.selected) {
    const answered = sent.findIndex((pick) => pick.place === data.selected);
    sent = answered < 0 ? [] : sent.slice(answered + 1);
  }
  Object.assign(root, { sent, selected: data.selected });
  let selected = sent.length ? sent[sent.length - 1].place : data.selected, hover = null;

  // The row of a position, null while it is not here.
  const rowOf = (at) => {
    if (data.whole) return root.weights.subarray(at * n, (at + 1) * n);
    return at === data.selected ? root.weights : null;
  };
  // The position whose row is shown: that under the pointer, where it is here.
  const asking = () => (hover?.side === 0 && data.whole ? hover.at : selected);
  let side = {};
  const draw = () => {
    const room = root.clientWidth || 500, wide = Math.min(LARGEST, (room - GAP) / 2);
    const size = Math.min(wide / columns, LARGEST / rows), [w, h] = [size * columns, size * rows];
    const top = added ? BOX + 6 : 0, second = w + GAP, width = 2 * w + GAP;
    side = { size, w, h, top, second, box: added ? Math.min(90, w / added) : 0 };
    const g = sized(canvas, width, top + h + BAR_AREA);
    const text = getComputedStyle(root).color;
    g.font = "11px sans-serif";
    g.textBaseline = "middle";
    const from = asking(), row = rowOf(from), limit = row ? limitOf(row, added) : 1;
    const image = imageOf(root, data.image, draw);
    drawImage(g, image, 0, top, w, h, data);
    drawImage(g, image, second, top, w, h, data, row, limit);
    for (let i = 0; i < added; i++) {
      for (const left of [0, second]) {
        const x = left + i * side.box, isMap = left && row;
        const colour = colourOf(isMap ? row[i] : NaN, limit, data.colours, data.signed, data.blank);
        g.fillStyle = `rgb(${colour})`;
        g.fillRect(x, 0, side.box - 2, BOX);
        g.fillStyle = luminance(colour) > MIDDLE ? "#000" : "#fff";
        g.textAlign = "center";
        const label = isMap && side.box > 70 ? `${data.added[i]} ${number(row[i])}` : data.added[i];
        g.fillText(label, x + side.box / 2 - 1, BOX / 2, side.box - 4);
      }
    }
    const frame = (left, at, style, thick) => {
      g.strokeStyle = style;
      g.lineWidth = thick;
      if (at < added) g.strokeRect(left + at * side.box + 1, 1, side.box - 4, BOX - 2);
      else {
        const [i, j] = [Math.floor((at - added) / columns), (at - added) % columns];
        g.strokeRect(left + j * size + 1, top + i * size + 1, Math.max(size - 2, 2), Math.max(size - 2, 2));
      }
    };
    for (const left of [0, second]) {
      frame(left, from, "#ffffff", 4);
      frame(left, from, MARK, 2);
    }
    if (hover) frame(hover.side ? second : 0, hover.at, "#000000", 1);
    root.drawn = { from: data.labels[from], limit, row: row && Array.from(row), labels: data.labels, side };
    if (!row) return;
    const y = top + h + 8, long = Math.min(w, 160);
    for (let x = 0; x < long; x++) {
      const low = data.signed ? -limit : 0;
      g.fillStyle = `rgb(${colourOf(low + ((limit - low) * x) / (long - 1), limit, data.colours, data.signed, data.blank)})`;
      g.fillRect(second + x, y, 1.5, BAR);
    }
    g.fillStyle = text;
    g.textAlign = "left";
    g.fillText(data.signed ? number(-limit) : "0", second, y + BAR + 8);
    g.textAlign = "right";
    g.fillText(number(limit), second + long, y + BAR + 8);
  };
  const name = (at) => data.labels[at];
  const announce = () => {
    const from = asking(), row = rowOf(from);
    if (!row) {
      status.textContent = `From ${name(from)}: one moment.`;
      return;
    }
    if (hover?.side === 0 && hover.at !== from) {
      status.textContent = `${name(hover.at)}: click it to see what it attends to.`;
      return;
    }
    if (hover?.side === 1) {
      status.textContent = `From ${name(from)} to ${name(hover.at)}: ${number(row[hover.at])}`;
      return;
    }
    let best = added;
    for (let i = added; i < n; i++) if (Math.abs(row[i]) > Math.abs(row[best])) best = i;
    const others = data.added.map((label, i) => `${label} ${number(row[i])}`);
    const largest = `From ${name(from)}: the largest weight on a patch is ${number(row[best])}, on ${name(best)}`;
    status.textContent = [largest, ...others].join("; on ");
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect(), y = event.clientY - box.top;
    let x = event.clientX - box.left;
    const right = x >= side.second ? 1 : 0;
    x -= right ? side.second : 0;
    if (x < 0 || x >= side.w || y < 0) return null;
    if (y < side.top) {
      const i = Math.floor(x / side.box);
      return y < BOX && i < added ? { side: right, at: i } : null;
    }
    const [i, j] = [Math.floor((y - side.top) / side.size), Math.floor(x / side.size)];
    return i < rows && j < columns ? { side: right, at: added + i * columns + j } : null;
  };
  const pick = (place) => {
    selected = place;
    hover = null;
    draw();
    announce();
    root.sent.push({ place, when: Date.now() });
    setTriggerValue("picked", place);
  };
  canvas.onclick = (event) => {
    const place = at(event);
    if (place) pick(place.at);
    root.focus({ preventScroll: true });
  };
  canvas.onmousemove = (event) => {
    hover = at(event);
    draw();
    announce();
  };
  canvas.onmouseleave = () => {
    hover = null;
    draw();
    announce();
  };
  const moved = (key) => {
    if (selected < added) {
      const to = { ArrowLeft: selected - 1, ArrowRight: selected + 1, ArrowDown: added, ArrowUp: selected }[key];
      return key === "ArrowDown" ? to : Math.min(added - 1, Math.max(0, to));
    }
    const [i, j] = [Math.floor((selected - added) / columns), (selected - added) % columns];
    if (key === "ArrowUp" && i === 0) return added ? 0 : selected;
    const [down, right] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
    const [k, l] = [Math.min(rows - 1, Math.max(0, i + down)), Math.min(columns - 1, Math.max(0, j + right))];
    return added + k * columns + l;
  };
  root.onkeydown = (event) => {
    if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    const to = moved(event.key);
    if (to !== selected) pick(to);
  };
  root.watcher?.disconnect(); // of the previous rendering
  root.watcher = new ResizeObserver(draw);
  root.watcher.observe(root);
  draw();
  announce();
  return () => root.watcher.disconnect();
}
