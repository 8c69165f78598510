// Server-sent events: when something changed, parts of the page that wait for "changed" ask for themselves again.
(() => {
  const tell = (live) => {
    const shown = document.getElementById("live");
    if (!shown) return;
    shown.textContent = live ? "live" : "not live: looks again every minute";
    shown.className = live ? "good" : "quiet";
  };
  const look = () => htmx.trigger(document.body, "changed");

  // a tab that nobody sees does not listen: browsers allow six connections to a node, all tabs together
  let source = null;
  let again; // after an answer other than 200 the browser gives up, and only this asks again
  let away; // each answer ends after a while, and the browser asks again: only a long absence is told
  const listen = () => {
    again = clearTimeout(again);
    source?.close();
    source = document.hidden ? null : new EventSource("/events");
    source?.addEventListener("open", () => {
      away = clearTimeout(away);
      tell(true);
    });
    source?.addEventListener("error", (event) => {
      away ??= setTimeout(tell, 3000, false);
      if (event.target.readyState === EventSource.CLOSED) again ??= setTimeout(listen, 60_000);
    });
    source?.addEventListener("changed", look);
  };
  document.addEventListener("visibilitychange", () => {
    listen();
    if (!document.hidden) look();
  });
  addEventListener("pagehide", () => source?.close());
  listen();

  // what was open stays open when a part is replaced
  let open = [];
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    open = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  });
})();
