// A sample over the steps: a column for each step, with its pictures one below the other, that is a button which opens
// the step. Arrow keys move from step to step.
// Milliseconds in which the server answers a pick, or is not going to.
const PATIENCE = 10000;
// Pixels around a picture; and, in a row, the size of a picture at least, as a share of its largest.
const AROUND = 12, SMALLEST = 0.6;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".step-strip"), list = root.querySelector("div");
  root.querySelector("figcaption").textContent = data.title;
  root.querySelector("p").textContent = data.note;
  root.querySelector("p").hidden = !data.note;
  list.setAttribute("aria-label", data.title);
  while (list.children.length > data.columns.length) list.lastChild.remove();
  while (list.children.length < data.columns.length) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("span"));
    list.append(button);
  }
  // As in the grid of heads: the last pick stays selected until the server answers it.
  let sent = (root.sent || []).filter((pick) => Date.now() - pick.when < PATIENCE);
  if (data.selected !== root.selected) {
    const answered = sent.findIndex((pick) => pick.step === data.selected);
    sent = answered < 0 ? [] : sent.slice(answered + 1);
  }
  Object.assign(root, { sent, selected: data.selected });
  let selected = sent.length ? sent[sent.length - 1].step : data.selected;
  const press = () => [...list.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === selected)));
  const pick = (step) => {
    selected = step;
    press();
    root.sent.push({ step, when: Date.now() });
    setTriggerValue("picked", step);
  };
  // Smaller pictures where all steps are then in one row.
  const fit = () => {
    const room = (root.clientWidth || 800) / data.columns.length - AROUND, share = Math.min(1, room / data.size[0]);
    const scale = share < SMALLEST ? 1 : share;
    for (const image of list.querySelectorAll("img")) {
      const [width, height] = data.size.map((side) => `${Math.floor(side * scale)}px`);
      Object.assign(image.style, { width, height });
    }
  };
  data.columns.forEach((column, i) => {
    const button = list.children[i], label = button.lastChild;
    while (button.children.length > column.images.length + 1) button.firstChild.remove();
    while (button.children.length < column.images.length + 1) button.prepend(document.createElement("img"));
    column.images.forEach((source, k) => {
      const image = button.children[k];
      if (image.getAttribute("src") !== source) image.src = source;
      image.alt = "";
    });
    label.textContent = column.label;
    button.title = column.text;
    button.setAttribute("aria-label", column.text);
    button.disabled = i >= data.steps;
    button.onclick = () => pick(i);
  });
  press();
  root.watcher?.disconnect(); // of the previous rendering
  root.watcher = new ResizeObserver(fit);
  root.watcher.observe(root);
  fit();
  list.onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const to = Math.min(data.steps - 1, Math.max(0, selected + move));
    list.children[to].focus();
    if (to !== selected) pick(to);
  };
  return () => root.watcher.disconnect();
}
