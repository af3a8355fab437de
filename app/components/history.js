// The page's script writes its values into the URL at the end of each run, and Streamlit makes that a step of the
// browser's history. Right after a page is opened or switched nothing was done by the user: then the values complete the
// step that is there, or Back would lead from a page to the same page first.
export default function () {
  if (window.workbenchHistory) return;
  const push = window.history.pushState.bind(window.history);
  const state = (window.workbenchHistory = { untouched: true });
  const touched = (event) => {
    if (event.isTrusted) state.untouched = false;
  };
  for (const name of ["pointerdown", "keydown", "drop"]) window.addEventListener(name, touched, { capture: true });
  window.addEventListener("popstate", () => (state.untouched = true), { capture: true });
  window.history.pushState = (data, title, url) => {
    const samePage = new URL(url, window.location.href).pathname === window.location.pathname;
    if (samePage && state.untouched) window.history.replaceState(data, title, url);
    else push(data, title, url);
    if (!samePage) state.untouched = true;
  };
}
