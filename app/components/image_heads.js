// The heads of a layer as small pictures, each a button that opens its head; each on a scale of its own.
// Pixels of the longer side of a picture, and around it.
const SMALLEST = 92, LARGEST = 140, AROUND = 14;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".image-heads"), list = root.querySelector("div");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.note;
  list.setAttribute("aria-label", data.title);
  const [rows, columns] = data.grid, n = data.labels.length, added = data.added.length, weights = floats(data.rows);
  while (list.children.length > data.heads.length) list.lastChild.remove();
  while (list.children.length < data.heads.length) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("canvas"), document.createElement("span"));
    list.append(button);
  }
  const draw = () => {
    // Larger where all are then still in one row.
    const room = (root.clientWidth || 500) / data.heads.length - AROUND;
    const size = Math.min(LARGEST, Math.max(SMALLEST, room)) / Math.max(rows, columns);
    const [w, h] = [Math.floor(size * columns), Math.floor(size * rows)];
    const image = imageOf(root, data.image, draw);
    data.heads.forEach((name, i) => {
      const button = list.children[i], [canvas, label] = button.children;
      const row = weights.subarray(i * n, (i + 1) * n), limit = limitOf(row, added);
      drawImage(sized(canvas, w, h), image, 0, 0, w, h, data, row, limit);
      label.textContent = name;
      const text = `Head ${name}: up to ${number(limit)} to a patch`;
      button.title = text;
      button.setAttribute("aria-label", text);
      button.setAttribute("aria-pressed", String(i === data.selected));
      button.onclick = () => setTriggerValue("picked", i);
    });
  };
  root.watcher?.disconnect(); // of the previous rendering
  root.watcher = new ResizeObserver(draw);
  root.watcher.observe(root);
  draw();
  return () => root.watcher.disconnect();
}
