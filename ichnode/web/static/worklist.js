// Keys of the work list: j and k move between studies, Enter opens one (it is a link), / searches.
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const links = [...document.querySelectorAll("[data-open]")];
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const step = { j: 1, k: -1 }[event.key];
  if (step) links[Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
  else if (event.key === "/") document.getElementById("search").focus();
  else return;
  event.preventDefault();
});
