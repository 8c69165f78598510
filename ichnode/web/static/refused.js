// A click that failed is told: htmx swaps in answers of success, and 409, alone.
(() => {
  const tell = (event, said) => {
    const line = Object.assign(document.createElement("p"), { className: "said bad", textContent: said });
    if (event.detail.requestConfig.verb === "get") {
      const { elt } = event.detail;
      if (!elt.matches("[hx-trigger^=load]")) return; // parts of the page that look again by themselves
      line.setAttribute("role", "alert");
      line.textContent = "This part of the page could not be loaded. Reload the page to try again.";
      elt.replaceChildren(line);
      return;
    }
    const status = document.getElementById("said"); // a live region, and what actions answer to
    if (status) return status.replaceChildren(line);
    const section = document.getElementById("judgement") ?? document.getElementById("main");
    line.id = "refused";
    line.setAttribute("role", "alert");
    document.getElementById(line.id)?.remove();
    const title = section.querySelector("h1, h2");
    if (title) title.after(line);
    else section.prepend(line);
  };
  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail;
    const isSentence = xhr.getResponseHeader("Content-Type")?.startsWith("text/plain") && xhr.responseText.length < 200;
    tell(event, `Nothing was changed: ${(isSentence && xhr.responseText) || xhr.statusText || xhr.status}`);
  });
  // perhaps the request arrived and its answer did not
  document.addEventListener("htmx:sendError", (event) => {
    tell(event, "Nothing was changed that this page knows of: the node did not answer. Look again before you repeat it.");
  });
})();
