// The slice viewer of the review page. Pictures come from the node one slice at a time and are kept in memory alone.
"use strict";

const KEPT = 300; // pictures, those used last
const AHEAD = 5; // slices that are fetched before anybody asks, each way
const LOOKED_AT = 600; // ms after the click on this page, who is still here looks at it
const NOTCH = 60; // of a wheel or touchpad, in pixels, for one slice
const SWIPE = 14; // of a finger, in pixels, for one slice
const PATIENCE = 15_000; // ms that are waited for an answer
const AGAIN = 5_000; // ms until the outlines are asked for again; twice as long each time, up to a minute

const viewer = document.getElementById("viewer");
const [sourcePane, besidePane] = viewer.querySelectorAll(".pane");
const slider = document.getElementById("slice");
const beside = document.getElementById("beside");
const opacity = document.getElementById("opacity");
const segments = document.getElementById("segments");
const trouble = document.getElementById("trouble");
const places = JSON.parse(viewer.dataset.places); // of each slice: image number, mm
const start = Number(viewer.dataset.start);
const pictures = new Map(); // address -> promise of an image, null where there is none

let index = start;
let layers = null; // what lies on which slice; the first picture does not wait for it

function picture(name, at, priority = "high") {
  const address = `${viewer.dataset.base}/slices/${at}/${name}.png`;
  const kept = pictures.get(address);
  pictures.delete(address); // and in again, as the last one used
  pictures.set(address, kept ?? load(address, priority));
  if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
  return pictures.get(address);
}

async function load(address, priority) {
  const image = new Image();
  image.fetchPriority = priority;
  image.src = address;
  let late;
  try {
    await Promise.race([image.decode(), new Promise((_, giveUp) => { late = setTimeout(giveUp, PATIENCE); })]);
    return image;
  } catch {
    image.removeAttribute("src"); // one that stalls lets its connection go
    pictures.delete(address); // it is asked for again the next time
    return null;
  } finally {
    clearTimeout(late);
  }
}

const shownWindow = () => viewer.querySelector("input[name=window]:checked").value;
const isThere = (kind, at) => !kind || Boolean(layers.pictures[kind]?.includes(at));

const TAKES = { predicted: true, difference: false }; // a line would hide a difference, and saliency stays as it was sent

function panes() {
  const shown = [{ pane: sourcePane, name: `source-${shownWindow()}`, takes: true }];
  const kind = layers && beside?.value;
  if (kind) {
    const name = kind === "predicted" ? `predicted-${shownWindow()}` : kind;
    shown.push({ pane: besidePane, kind, name, takes: TAKES[kind] });
  }
  return shown;
}

function layersOn(at) {
  const names = [];
  for (const segment of [...(layers?.segments ?? [])].reverse()) { // the hematoma of today on top
    if (!segment.slices.includes(at)) continue;
    for (const [part, alpha] of [["fill", opacity.value / 100], ["outline", 1]]) {
      if (segment[part].checked) names.push({ name: `${segment.name}-${part}`, label: segment[part].ariaLabel, alpha });
    }
  }
  return names;
}

async function draw() {
  const at = index, overlays = layersOn(at);
  const loaded = await Promise.all(panes().map(async shown => ({
    ...shown,
    image: isThere(shown.kind, at) ? await picture(shown.name, at) : null,
    painted: await Promise.all((shown.takes ? overlays : []).map(o => picture(o.name, at).then(image => ({ ...o, image })))),
  })));
  for (const shown of loaded) paint(shown, at);
  tell(at);
  viewer.dataset.shown = `${at} ${loaded.map(shown => shown.name).join(" ")} ${overlays.map(o => o.name).join(" ")}`.trim();
}

function paint({ pane, kind, image, painted }, at) {
  const canvas = pane.querySelector("canvas"), context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (image) context.drawImage(image, 0, 0, canvas.width, canvas.height);
  for (const layer of painted) {
    context.globalAlpha = layer.alpha;
    if (layer.image) context.drawImage(layer.image, 0, 0, canvas.width, canvas.height);
  }
  const missing = painted.filter(layer => !layer.image).map(layer => layer.label).join(", ");
  const note = pane.querySelector(".note");
  note.textContent = `${image ? legend(kind) : gone(kind, at)}${missing && ` · cannot be shown: ${missing}`}`;
  note.classList.toggle("missing", Boolean(missing));
  canvas.setAttribute("aria-label", `${pane.querySelector("figcaption").innerText.trim()}, slice ${at + 1} of ${places.length}`);
}

function gone(kind, at) {
  if (isThere(kind, at)) return "this picture cannot be shown";
  if (layers.unreadable[kind]) return "this picture cannot be read, or there is none of this slice";
  return "no such picture of this slice";
}

function legend(kind) {
  if (kind === "predicted") return `SYNTHETIC, not acquired · ${shownWindow()} window`;
  if (kind === "difference") return "predicted minus source · orange denser, blue less dense, full colour at 40 HU";
  return kind ? "brain window, as it was sent" : `${shownWindow()} window`;
}

function tell(at) {
  const [number, mm] = places[at];
  slider.value = at + 1;
  const place = `${at + 1} of ${places.length}${number === null ? "" : ` · image ${number}`} · ${mm.toFixed(1)} mm`;
  slider.setAttribute("aria-valuetext", place);
  document.getElementById("place").textContent = place;
}

let busy = false, again = false;

// One drawing at a time: whoever scrolls fast sees every slice that there is time for, and always the last one.
async function show() {
  again = true;
  if (busy) return;
  busy = true;
  try {
    while (again) {
      again = false;
      await draw();
    }
  } finally {
    busy = false;
  }
  await painted();
  // not before the outlines; nor at once, or who goes straight on to another study waits for what this page fetches
  if (layers) setTimeout(fetchAhead, Math.max(0, LOOKED_AT - performance.now()));
}

// What is fetched next shares the processor with the picture on its way to the screen, and waits for it.
const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));

function fetchAhead() {
  for (let far = 1; far <= AHEAD; far++) {
    for (const at of [index + far, index - far]) {
      if (at < 0 || at >= places.length) continue;
      for (const shown of panes()) if (isThere(shown.kind, at)) picture(shown.name, at, "low");
      for (const layer of layersOn(at)) picture(layer.name, at, "low");
    }
  }
}

function go(to) {
  const at = Math.max(0, Math.min(places.length - 1, to));
  if (at === index) return;
  index = at;
  show();
}

function showBeside() {
  besidePane.hidden = !beside?.value;
  if (beside?.value) besidePane.querySelector(".name").textContent = beside.selectedOptions[0].textContent;
  besidePane.classList.toggle("burned", !(beside?.value in TAKES)); // its letters would cover text in the picture
  besidePane.querySelector("figcaption").classList.toggle("synthetic", beside?.value === "predicted");
}

function chooseBeside(step) {
  if (!beside) return;
  beside.selectedIndex = (beside.selectedIndex + step + beside.options.length) % beside.options.length;
  showBeside();
  show();
}

function chooseWindow(number) {
  viewer.querySelectorAll("input[name=window]")[number].checked = true;
  show();
}

// All on where none is, else all off.
function toggle(part) {
  const boxes = (layers?.segments ?? []).map(segment => segment[part]);
  const on = !boxes.some(box => box.checked);
  for (const box of boxes) box.checked = on;
  show();
}

const KEYS = {
  ArrowDown: () => go(index + 1), ArrowUp: () => go(index - 1),
  PageDown: () => go(index + 5), PageUp: () => go(index - 5),
  Home: () => go(0), End: () => go(places.length - 1),
  k: () => go(start),
  1: () => chooseWindow(0), 2: () => chooseWindow(1), 3: () => chooseWindow(2),
  o: () => toggle("outline"), f: () => toggle("fill"), b: () => chooseBeside(1),
};

viewer.addEventListener("keydown", event => {
  const inControl = event.target.matches("select, input[type=range]:not(#slice), input[type=radio]");
  const does = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (!does || event.ctrlKey || event.metaKey || event.altKey || (inControl && event.key.length > 1)) return;
  if (event.target.matches("select")) return;
  event.preventDefault();
  does();
});

const turned = { wheel: 0, finger: 0 };

function turn(by, distance, notch) {
  turned[by] += distance;
  const slices = Math.trunc(turned[by] / notch);
  turned[by] -= slices * notch;
  if (slices) go(index + slices);
}

for (const canvas of viewer.querySelectorAll("canvas")) {
  canvas.style.aspectRatio = viewer.dataset.aspect;
  canvas.addEventListener("wheel", event => {
    if (event.ctrlKey) return; // that is zoom
    event.preventDefault();
    const distance = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * NOTCH;
    if (Math.abs(distance) < NOTCH) turn("wheel", distance, NOTCH);
    else go(index + Math.sign(distance)); // a notch of a mouse wheel is one slice, whatever it measures
  }, { passive: false });
  let from = null;
  canvas.addEventListener("pointerdown", event => { from = event.pointerType === "mouse" ? null : event.clientY; });
  canvas.addEventListener("pointermove", event => {
    if (from === null) return;
    turn("finger", from - event.clientY, SWIPE);
    from = event.clientY;
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(end, () => { from = null; turned.finger = 0; });
}

slider.addEventListener("input", () => go(slider.value - 1));
document.getElementById("key").addEventListener("click", () => go(start));
// after a click the keys are the viewer's again; who reaches a control by Tab keeps it
viewer.addEventListener("click", event => {
  if (event.detail && event.target.closest("label, button") && !event.target.closest(".beside, .opacity")) {
    setTimeout(() => viewer.focus({ preventScroll: true }));
  }
});
viewer.addEventListener("change", event => {
  if (event.target === beside) showBeside();
  if (event.target !== slider) show();
});
opacity.addEventListener("input", show);

// A row of switches for each segment: what it is called, its line, its fill.
function addSegment(segment) {
  const row = document.createElement("span"), swatch = document.createElement("span");
  row.className = "segment";
  swatch.className = "swatch";
  swatch.style.background = `rgb(${segment.rgb})`;
  row.append(swatch, segment.label.replace(/ \(AI.*\)$/, ""));
  for (const part of ["outline", "fill"]) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = part === "outline" && !segment.label.includes("growth");
    box.setAttribute("aria-label", `${part} of ${segment.label}`);
    label.append(box, part);
    row.append(label);
    segment[part] = box;
  }
  segments.insertBefore(row, segments.querySelector(".opacity"));
  return segment;
}

async function askForLayers() {
  const answer = await fetch(`${viewer.dataset.base}/layers`, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

async function showLayers(wait = AGAIN) {
  let found;
  try {
    found = await askForLayers();
  } catch {
    const those = `Outlines${beside ? ", and what lies beside the source," : ""}`;
    trouble.textContent = `${those} could not be loaded. The page tries again by itself.`;
    setTimeout(showLayers, wait, Math.min(2 * wait, 60_000));
    return;
  }
  const unreadable = Object.values(found.unreadable).join(", ");
  const said = `Cannot be read on the node, all or part of it: ${unreadable}. Reload the page to try again.`;
  trouble.textContent = unreadable && said;
  found.segments.forEach(addSegment);
  segments.hidden = !found.segments.length;
  layers = found;
  show();
}

if (beside && matchMedia("(max-width: 44rem)").matches) beside.value = ""; // a phone begins with one picture
showBeside();
viewer.focus({ preventScroll: true });
show().then(showLayers);
