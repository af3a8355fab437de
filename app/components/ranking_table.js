// A table of heads, one row each: a click, or Enter on the row that the arrow keys reach, opens a head.
const PAGE = 8;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".ranking");
  const [heading, body] = [root.querySelector("thead"), root.querySelector("tbody")];
  root.setAttribute("aria-label", data.label);
  root.setAttribute("aria-rowcount", data.rows.length + 1);

  const cell = (tag, role, text) => {
    const made = document.createElement(tag);
    made.setAttribute("role", role);
    made.textContent = text;
    return made;
  };
  const row = (cells) => {
    const made = document.createElement("tr");
    made.setAttribute("role", "row");
    made.append(...cells);
    return made;
  };
  const drawn = JSON.stringify([data.headings, data.rows]);
  const isNew = drawn !== root.drawn;
  if (isNew) {
    root.drawn = drawn;
    heading.replaceChildren(
      row(
        data.headings.map(([name, help]) => {
          const made = cell("th", "columnheader", name);
          made.title = help;
          return made;
        }),
      ),
    );
    body.replaceChildren(...data.rows.map((texts) => row(texts.map((text) => cell("td", "gridcell", text)))));
    root.scrollTop = 0;
  }
  const rows = [...body.children];
  const headAt = data.headings.findIndex(([name]) => name === "head");
  const nameOf = (i) => data.rows[i][headAt];

  const scrollTo = (i) => {
    const top = rows[i].offsetTop - heading.offsetHeight, bottom = rows[i].offsetTop + rows[i].offsetHeight;
    if (top < root.scrollTop) root.scrollTop = top;
    else if (bottom > root.scrollTop + root.clientHeight) root.scrollTop = bottom - root.clientHeight;
  };
  const mark = (selected) =>
    rows.forEach((each, i) => each.setAttribute("aria-selected", String(nameOf(i) === selected)));
  const activate = (i) => {
    rows.forEach((each, j) => {
      each.classList.toggle("active", i === j);
      each.id = i === j ? "ranking-active" : "";
    });
    root.active = i;
    if (i >= 0) root.setAttribute("aria-activedescendant", "ranking-active");
    else root.removeAttribute("aria-activedescendant");
  };
  const open = (i) => {
    activate(i);
    mark(nameOf(i));
    root.opened = nameOf(i);
    setTriggerValue("picked", nameOf(i));
  };

  mark(data.selected);
  const selected = data.rows.findIndex((_, i) => nameOf(i) === data.selected);
  if (isNew || data.selected !== root.selected) {
    activate(selected);
    // A new ranking shows its best heads; the row that was opened here is in view, and stays where it is.
    if (selected >= 0 && !isNew && data.selected !== root.opened) scrollTo(selected);
  }
  root.selected = data.selected;

  body.onclick = (event) => {
    const i = rows.indexOf(event.target.closest("tr"));
    if (i >= 0) open(i);
  };
  const MOVES = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE, Home: -Infinity, End: Infinity };
  root.onkeydown = (event) => {
    const at = root.active ?? -1;
    if (event.key in MOVES) {
      const i = Math.max(0, Math.min(rows.length - 1, at + MOVES[event.key]));
      activate(i);
      scrollTo(i);
    } else if ((event.key === "Enter" || event.key === " ") && at >= 0) open(at);
    else return;
    event.preventDefault();
  };
}
