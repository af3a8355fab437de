// The page's script writes its values into the URL at the end of each run, and Streamlit makes that a step of the
// browser's history. Right after a page is opened or switched nothing was done by the user: then the values complete the
// step that is there, or Back would lead from a page to the same page first.
// A new step takes the browser 30 ms, in which it draws nothing: it is made once the page is drawn, and before whatever
// the user does next.
const DRAWN = 100;

export default function () {
  if (window.workbenchHistory) return;
  const push = window.history.pushState.bind(window.history);
  const state = (window.workbenchHistory = { untouched: true, switching: false, later: null });
  const makeStep = () => {
    if (state.later === null) return;
    const { step, timer } = state.later;
    clearTimeout(timer);
    state.later = null;
    push(...step);
  };
  const touched = (event) => {
    makeStep();
    if (event.isTrusted) Object.assign(state, { untouched: false, switching: false });
  };
  for (const name of ["pointerdown", "keydown", "drop"]) window.addEventListener(name, touched, { capture: true });
  // A page that is rendered at once writes its values before Streamlit has switched to it: as those of the page that is
  // left. It writes them again with the switch.
  const clicked = (event) => {
    const link = event.target.closest?.("a[href]"), elsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
    if (!link || elsewhere || link.target === "_blank" || link.origin !== window.location.origin) return;
    state.switching = link.pathname !== window.location.pathname;
  };
  window.addEventListener("click", clicked, { capture: true });
  window.addEventListener("pagehide", makeStep);
  window.addEventListener(
    "popstate",
    () => {
      state.untouched = true;
      state.switching = false;
      clearTimeout(state.later?.timer);
      state.later = null;
    },
    { capture: true },
  );
  window.history.pushState = (...step) => {
    makeStep();
    const url = step[2];
    const samePage = new URL(url, window.location.href).pathname === window.location.pathname;
    if (samePage && state.switching) return;
    state.switching = false;
    if (samePage && state.untouched) window.history.replaceState(...step);
    else if (samePage) state.later = { step, timer: setTimeout(makeStep, DRAWN) };
    else push(...step);
    if (!samePage) state.untouched = true;
  };
}
