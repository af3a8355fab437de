// Milliseconds for which the button says what it did.
const SHOWN = 2000;

// The way of pages that are not served securely (over http from another machine): they have no clipboard.
const copySelection = (text) => {
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
  }
};

export default function (component) {
  const button = component.parentElement.querySelector("button"), label = button.querySelector("span");
  button.onclick = async () => {
    const address = window.location.href;
    let copied;
    try {
      await navigator.clipboard.writeText(address);
      copied = true;
    } catch {
      copied = copySelection(address);
      button.focus({ preventScroll: true });
    }
    label.textContent = copied ? "Copied" : "Not copied: use the address bar";
    clearTimeout(button.timer);
    button.timer = setTimeout(() => (label.textContent = "Copy link"), SHOWN);
  };
}
