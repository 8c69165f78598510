// Server-sent events: when something changed, parts of the page that wait for "changed" ask for themselves again.
(() => {
  const source = new EventSource("/events");
  const tell = (live) => {
    const shown = document.getElementById("live");
    if (!shown) return;
    shown.textContent = live ? "live" : "not live: looks again every minute";
    shown.className = live ? "good" : "quiet";
  };
  source.addEventListener("open", () => tell(true));
  source.addEventListener("error", () => tell(false));
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
