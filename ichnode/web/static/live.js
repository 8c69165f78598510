// Server-sent events: when something changed, parts of the page that wait for "changed" ask for themselves again.
(() => {
  const source = new EventSource("/events");
  const tell = (live) => {
    const shown = document.getElementById("live");
    if (!shown) return;
    shown.textContent = live ? "live" : "not live: looks again every minute";
    shown.className = live ? "good" : "quiet";
  };
  let away; // each answer ends after a while, and the browser asks again: only a long absence is told
  source.addEventListener("open", () => {
    away = clearTimeout(away);
    tell(true);
  });
  source.addEventListener("error", () => (away ??= setTimeout(tell, 3000, false)));
  source.addEventListener("changed", () => htmx.trigger(document.body, "changed"));
  addEventListener("pagehide", () => source.close());

  // what was open stays open when a part is replaced
  let open = [];
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    open = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  });
})();
