// One canvas: layers along x, heads along y (or what `data.axes` says), a colour bar with its units below where there is
// a value.
const TOP = 2, AXIS = 30, BAR = 10, BAR_AREA = 34;
// Pixels of a cell at least.
const SMALLEST = 9;
// Of marked heads.
const MARKED = "#e69f00";
// Milliseconds in which the server answers a pick, or is not going to.
const PATIENCE = 10000;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".grid");
  const canvas = root.querySelector("canvas");
  const status = root.querySelector("output");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.note;
  const heads = data.values.length, layers = data.values[0].length;
  const [across, down] = data.axes || [{ title: "layer" }, { title: data.shared ? "key/value head" : "head" }];
  const label = (axis, i) => (axis.labels ? axis.labels[i] : String(i));
  const LEFT = down.labels ? 52 : 34;
  const empty = data.values.flat().every((value) => value === null);
  // The last pick stays selected until the server answers it: a selection that equals one of `root.sent` is an answer to
  // an earlier pick, and any other was made elsewhere and is shown at once.
  const selected = String(data.selected);
  let sent = (root.sent || []).filter((pick) => Date.now() - pick.when < PATIENCE);
  if (selected !== root.selected) {
    const answered = sent.findIndex((pick) => String(pick.place) === selected);
    sent = answered < 0 ? [] : sent.slice(answered + 1);
  }
  Object.assign(root, { sent, selected });
  let [layer, head] = sent.length ? sent[sent.length - 1].place : data.selected;
  let hover = null;

  const colour = (value) => {
    if (value === null) return data.blank;
    const share = Math.min(1, Math.max(0, (value - data.low) / (data.high - data.low || 1)));
    const at = share * (data.colours.length - 1), i = Math.min(data.colours.length - 2, Math.floor(at));
    const mixed = data.colours[i].map((c, k) => Math.round(c + (data.colours[i + 1][k] - c) * (at - i)));
    return `rgb(${mixed.join(",")})`;
  };
  const format = (value) => (value === null ? "no value" : Number(value.toPrecision(3)).toString().replace("-", "\u2212"));

  let size = 0;
  const bar = (g, width, text) => {
    const room = width - LEFT - g.measureText(data.units).width - 12;
    const y = TOP + heads * size + AXIS + 4, wide = Math.max(60, Math.min(240, layers * size, room));
    for (let x = 0; x < wide; x++) {
      g.fillStyle = colour(data.low + ((data.high - data.low) * x) / wide);
      g.fillRect(LEFT + x, y, 1.5, BAR);
    }
    g.fillStyle = text;
    for (const level of data.levels) {
      const x = LEFT + (wide * (level - data.low)) / (data.high - data.low || 1);
      if (x >= LEFT && x <= LEFT + wide) g.fillRect(x - 1, y - 4, 2, BAR + 8);
    }
    g.textAlign = "left";
    g.fillText(format(data.low), LEFT, y + BAR + 9);
    g.textAlign = "right";
    g.fillText(format(data.high), LEFT + wide, y + BAR + 9);
    g.textAlign = "left";
    g.fillText(data.units, LEFT + wide + 8, y + BAR / 2);
  };

  const draw = () => {
    const room = root.clientWidth || 600;
    size = Math.max(SMALLEST, Math.min(30, (room - LEFT - 2) / layers));
    const width = Math.max(room, LEFT + layers * size + 2); // a wide grid on a narrow screen scrolls
    const height = TOP + heads * size + AXIS + (empty ? 0 : BAR_AREA);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    canvas.style.width = `${width}px`;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const text = getComputedStyle(root).color;
    g.font = "11px sans-serif";
    g.textBaseline = "middle";
    for (let j = 0; j < heads; j++) {
      for (let i = 0; i < layers; i++) {
        g.fillStyle = colour(data.values[j][i]);
        g.fillRect(LEFT + i * size, TOP + j * size, size - 1, size - 1);
      }
    }
    g.fillStyle = text;
    g.textAlign = "right";
    const everyHead = Math.max(1, Math.ceil(14 / size));
    for (let j = 0; j < heads; j += everyHead) g.fillText(label(down, j), LEFT - 5, TOP + (j + 0.5) * size);
    g.textAlign = "center";
    const everyLayer = Math.max(1, Math.ceil(22 / size));
    for (let i = 0; i < layers; i += everyLayer) g.fillText(label(across, i), LEFT + (i + 0.5) * size, TOP + heads * size + 8);
    g.fillText(across.title, LEFT + (layers * size) / 2, TOP + heads * size + 22);
    g.save();
    // beside the middle of the rows, or lower where they are few: the title is never cut
    g.translate(8, Math.max(TOP + (heads * size) / 2, g.measureText(down.title).width / 2 + 2));
    g.rotate(-Math.PI / 2);
    g.fillText(down.title, 0, 0);
    g.restore();
    if (!empty) bar(g, width, text);
    const frame = (i, j, style, thick, inset = 0) => {
      g.strokeStyle = style;
      g.lineWidth = thick;
      g.strokeRect(LEFT + i * size - 0.5 + inset, TOP + j * size - 0.5 + inset, size - 2 * inset, size - 2 * inset);
    };
    for (const [i, j] of data.marked) frame(i, j, MARKED, 2);
    if (hover) frame(hover[0], hover[1], text, 1);
    frame(layer, head, "#ffffff", 4);
    frame(layer, head, "#000000", 2);
    // inside the frame of the open head, which would cover it
    if (data.marked.some(([i, j]) => i === layer && j === head)) frame(layer, head, MARKED, 2, 2.5);
  };
  const announce = (i, j) => {
    const value = data.values[j][i], text = value === null ? format(value) : `${format(value)} ${data.units}`;
    const own = `${i}.${data.shared ? "kv" : ""}${j}`;
    const name = data.axes ? `${down.title} ${label(down, j)}, ${across.title} ${label(across, i)}` : own;
    status.textContent = `${name}: ${data.texts ? data.texts[j][i] : text}`;
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const i = Math.floor((event.clientX - box.left - LEFT) / size), j = Math.floor((event.clientY - box.top - TOP) / size);
    return i >= 0 && i < layers && j >= 0 && j < heads ? [i, j] : null;
  };
  const pick = (i, j) => {
    [layer, head] = [i, j];
    draw();
    announce(i, j);
    root.sent.push({ place: [i, j], when: Date.now() });
    setTriggerValue("picked", [i, j]);
  };
  canvas.onclick = (event) => {
    const place = at(event);
    if (place) pick(...place);
    root.focus({ preventScroll: true });
  };
  canvas.onmousemove = (event) => {
    hover = at(event);
    draw();
    announce(...(hover || [layer, head]));
  };
  canvas.onmouseleave = () => {
    hover = null;
    draw();
    announce(layer, head);
  };
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  root.onkeydown = (event) => {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const i = Math.min(layers - 1, Math.max(0, layer + move[0])), j = Math.min(heads - 1, Math.max(0, head + move[1]));
    if (i !== layer || j !== head) pick(i, j);
  };
  root.watcher?.disconnect(); // of the previous rendering: only the last one calls back below
  root.watcher = new ResizeObserver(draw);
  root.watcher.observe(root);
  draw();
  announce(layer, head);
  return () => root.watcher.disconnect();
}
