// Scrolls to an element as soon as it is there, once for each number.
const TRIES = 100, PAUSE = 100;

export default function ({ data }) {
  if (window.workbenchScrolled === data.number) return;
  window.workbenchScrolled = data.number;
  const scroll = (tries) => {
    const element = document.querySelector(data.selector);
    if (element) element.scrollIntoView({ block: "center" });
    else if (tries) setTimeout(() => scroll(tries - 1), PAUSE);
  };
  scroll(TRIES);
}
