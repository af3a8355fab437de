// The prompt as people write it, a span for each piece: whole characters, with the positions of their tokens.
// Milliseconds in which the server answers a click, or is not going to.
const PATIENCE = 10000;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".prompt"), box = root.querySelector(".text");
  const status = root.querySelector("output");
  root.style.setProperty("--asking", data.mark);
  root.querySelector(".question").textContent = data.question;
  const legend = root.querySelector(".legend");
  if (legend.source !== data.legend) legend.innerHTML = legend.source = data.legend; // the library's own, without tokens

  const written = JSON.stringify(data.pieces);
  if (root.written !== written) {
    box.replaceChildren(...data.pieces.map(span));
    root.spans = [...box.children];
    root.written = written;
    root.cursor = null;
    root.shades = null;
  }
  const spans = root.spans, pieceOf = [];
  data.pieces.forEach(([, positions], i) => positions.forEach((position) => (pieceOf[position] = i)));
  const shades = data.shares.join();
  const isNew = root.shades !== shades;
  root.shades = shades;
  if (isNew) spans.forEach((element, i) => {
    let largest = 0;
    for (const position of data.pieces[i][1]) largest = Math.max(largest, data.shares[position]);
    const shade = `rgba(${data.shade.slice(0, 3).join(",")},${(data.shade[3] * largest).toFixed(3)})`;
    if (element.shade !== shade) element.style.backgroundColor = element.shade = shade;
  });
  // A click stays shown until the server answers it, as in the grid.
  const answer = String([data.asking, data.pair]);
  let sent = (root.sent || []).filter((click) => Date.now() - click.when < PATIENCE);
  if (answer !== root.answer) {
    const answered = sent.findIndex((click) => (click.isPair ? click.pair === data.pair : click.asking === data.asking));
    sent = answered < 0 ? [] : sent.slice(answered + 1);
  }
  Object.assign(root, { sent, answer });
  let asking = sent.length ? sent[sent.length - 1].asking : data.asking;
  let pair = sent.length ? sent[sent.length - 1].pair : data.pair;
  const last = data.labels.length - 1;

  function span([text, , side], index) {
    const element = document.createElement("span");
    element.index = index;
    element.style.boxShadow = `inset ${side === "L" ? 1 : -1}px 0 0 ${data.begin}`;
    const parts = text.split(/(\r\n|\n|\r)/);
    for (const part of parts) {
      if (/^[\r\n]/.test(part)) element.append(aside("⏎"));
      element.append(part);
    }
    if (data.nothing.includes(text)) element.append(aside("∅"));
    return element;
  }
  function aside(mark) {
    const element = document.createElement("aside");
    element.textContent = mark;
    element.setAttribute("aria-hidden", "true");
    return element;
  }

  const number = (v) => (v === null ? "no value" : Number(v.toPrecision(3)).toString().replace("-", "\u2212"));
  const weight = (position) => (data.masked.includes(position) ? data.why : number(data.weights[position]));
  const line = (position) => `${data.labels[position]}: ${weight(position)}`;
  const mark = () => {
    root.marked?.forEach(([element, name]) => element.classList.remove(name));
    root.marked = [[spans[pieceOf[asking]], "asking"]];
    if (pair !== null && pieceOf[pair] !== pieceOf[asking]) root.marked.push([spans[pieceOf[pair]], "pair"]);
    if (root.cursor !== null && root.cursor !== undefined) root.marked.push([spans[pieceOf[root.cursor]], "at"]);
    root.marked.forEach(([element, name]) => element.classList.add(name));
  };
  const announce = (positions) => {
    if (positions) status.textContent = positions.map(line).join("\n");
    else status.textContent = pair === null ? "" : `${data.verb} ${line(pair)}`;
  };
  const ask = (position, isPair) => {
    if (!data.asks || (isPair && data.pair === null)) return;
    if (isPair) pair = position;
    else asking = position;
    root.cursor = null;
    root.sent.push({ asking, pair, isPair, when: Date.now() });
    mark();
    setTriggerValue("asked", [position, isPair]);
  };
  const spanAt = (event) => {
    return event.target.closest?.(".text > span")?.index ?? null;
  };
  box.onclick = (event) => {
    const i = spanAt(event);
    if (i === null || window.getSelection()?.type === "Range") return;
    // Of a character of several tokens its last; a further click goes on to the next.
    const positions = data.pieces[i][1], current = positions.indexOf(event.shiftKey ? pair : asking);
    ask(current < 0 ? positions[positions.length - 1] : positions[(current + 1) % positions.length], event.shiftKey);
  };
  box.onmousedown = (event) => event.shiftKey && event.preventDefault(); // no selection of text
  box.onmousemove = (event) => {
    const i = spanAt(event);
    announce(i === null ? null : data.pieces[i][1]);
  };
  box.onmouseleave = () => announce(null);
  // The piece of the line above or below that is nearest.
  const beside = (position, way) => {
    const here = spans[pieceOf[position]].getBoundingClientRect(), middle = here.left + here.width / 2;
    let best = null, bestAt = null;
    for (let i = pieceOf[position] + way; i >= 0 && i < spans.length; i += way) {
      const there = spans[i].getBoundingClientRect();
      if ((there.top - here.top) * way < here.height / 2) continue;
      if (best !== null && Math.abs(there.top - bestAt.top) > here.height / 2) break;
      const away = Math.abs(there.left + there.width / 2 - middle);
      if (best === null || away < bestAt.away) [best, bestAt] = [i, { top: there.top, away }];
    }
    return best === null ? position : data.pieces[best][1][0];
  };
  root.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = root.cursor ?? asking;
    const moves = {
      ArrowLeft: () => Math.max(0, at - 1),
      ArrowRight: () => Math.min(last, at + 1),
      Home: () => 0,
      End: () => last,
      ArrowUp: () => beside(at, -1),
      ArrowDown: () => beside(at, 1),
    };
    if (event.key in moves) {
      root.cursor = moves[event.key]();
      mark();
      spans[pieceOf[root.cursor]].scrollIntoView({ block: "nearest" });
      announce([root.cursor]);
    } else if (event.key === "Enter") ask(at, event.shiftKey);
    else return;
    event.preventDefault();
  };
  mark();
  announce(null);
  if (root.scrolled !== asking && box.scrollHeight > box.clientHeight) {
    const place = spans[pieceOf[asking]];
    const top = place.offsetTop - box.offsetTop;
    if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 30) box.scrollTop = top - box.clientHeight / 2;
  }
  root.scrolled = asking;
}
