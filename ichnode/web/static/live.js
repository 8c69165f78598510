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

  // what was open stays open, and chosen what was chosen, when a part is replaced; none is while somebody chooses in it
  const kept = new WeakMap(); // by the part that was replaced
  let passed = false; // a part was not replaced
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { target } = event.detail;
    if (target.querySelector("select:focus")) {
      event.detail.shouldSwap = false;
      passed = true;
    }
    const those = (selector) => [...target.querySelectorAll(selector)];
    kept.set(target, {
      open: those("details[open][id]").map(({ id }) => id),
      chosen: those("select[id]").map(({ id, value }) => [id, value]),
    });
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    for (const [id, value] of kept.get(event.detail.target)?.chosen ?? []) {
      const select = document.getElementById(id);
      if ([...(select?.options ?? [])].some((option) => option.value === value)) select.value = value;
    }
  });
  document.body.addEventListener("htmx:afterSettle", (event) => {
    for (const id of kept.get(event.detail.target)?.open ?? []) document.getElementById(id)?.setAttribute("open", "");
  });
  document.body.addEventListener("focusout", () => {
    if (passed) setTimeout(look, 1000); // not under the click that follows
    passed = false;
  });
})();
