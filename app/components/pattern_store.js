// Holds the maps of a prompt for the component that draws them, under their hash: they are sent once, and not again at
// each click.
const KEPT = 2;

export default function ({ data }) {
  const id = Array.from(data.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const maps = (window.workbenchPatterns ??= new Map());
  if (maps.has(id)) return;
  maps.set(id, data.slice(16));
  while (maps.size > KEPT) maps.delete(maps.keys().next().value);
  window.dispatchEvent(new Event("workbench-patterns"));
}
