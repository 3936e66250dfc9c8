// The light table: the members of a group as large as they fit, moved in step.
const MOST_PANES = 12;
let marksOn = true, lensOn = false, pairOnly = matchMedia("(max-width:760px)").matches, lensAt = { x: 0.5, y: 0.5 };
let panes = [], painting = 0, tableOf = "", place = -1; // panes: [{ at, canvas, note }]; place: the difference looked at last

const tableGroup = () => GROUPS[current];

// The members that are on the table: all, the first ones of very many, or a pair.
function onTable(group) {
  const keeper = keeperOf(group), other = comparedWith(group), others = othersOf(group);
  if (other === undefined) return [keeper];
  if (mode !== "side") return [keeper, other];
  if (pairOnly) return [keeper, other];
  const shown_ = others.slice(0, MOST_PANES - 1);
  if (!shown_.includes(other)) shown_[shown_.length - 1] = other;
  return [keeper, ...shown_];
}

function openTable() {
  if (!GROUPS[current] || !order.length) return;
  eye.fitted = true;
  location.hash = "table/" + GROUPS[current].i;
}

function closeTable() {
  if (document.fullscreenElement) document.exitFullscreen();
  location.hash = GROUPS[current].i;
  setTimeout(() => byId("open-table")?.focus({ preventScroll: true }), 50); // once the group is drawn
}

function drawTable() {
  const group = tableGroup();
  if (!group) return;
  const key = group.i + "/" + keeperOf(group);
  if (tableOf !== key) {
    forgetWishes();
    tableOf = key;
    place = -1;
    eye.fitted = true;
  }
  clearInterval(flickering);
  if (mode === "flicker" && !calm.matches) flickering = setInterval(() => { amount = amount ? 0 : 100; repaint(); }, 650);
  drawTableBar(group);
  drawPanes(group);
  drawFilm(group);
  repaint();
}

function drawTableBar(group) {
  const focused = document.activeElement && byId("table-bar").contains(document.activeElement) ? document.activeElement.id : "";
  const other = comparedWith(group), nth = order.indexOf(current) + 1;
  const button = (id, label, key, act, pressed) => h("button", { type: "button", id, class: "small", "aria-pressed": pressed === undefined ? null : String(pressed), "aria-keyshortcuts": key, on: { click: act } }, label, key ? [" ", h("kbd", {}, key)] : null);
  put(byId("table-bar"),
    button("table-close", "‹ " + words("table.close"), "Esc", closeTable),
    h("h1", {}, h("span", { class: "soft" }, nth ? number(nth) + " / " + number(order.length) + " · " : ""), bdi(baseName(group.m[keeperOf(group)][KEY]))),
    h("span", { class: "bar-part", role: "group", "aria-label": words("table.compare") },
      ...Object.entries(MODES).filter(([name]) => name === "side" || other !== undefined).map(([name, label]) => button("table-" + name, label, MODE_KEYS[name], () => (name === "side" ? setMode(mode) : setMode(name)), mode === name)),
      othersOf(group).length > 1 ? button("table-pair", words("table.pair"), "p", togglePair, pairOnly) : null),
    h("span", { class: "bar-part", role: "group", "aria-label": words("table.zoom") },
      button("table-out", "−", "-", () => zoomBy(0.8)), button("table-in", "+", "+", () => zoomBy(1.25)),
      button("table-fit", words("table.fit"), "0", fitTable), button("table-whole", "100 %", "z", toggleWhole),
      h("output", { id: "table-scale", class: "soft small" })),
    h("span", { class: "bar-part", role: "group", "aria-label": words("table.show") },
      button("table-lens", words("table.lens"), "m", toggleLens, lensOn), button("table-marks", words("table.marks"), "h", toggleMarks, marksOn),
      differences(group).length ? button("table-next", words("table.next"), "n", nextPlace) : null,
      document.fullscreenEnabled ? button("table-full", words("table.full"), "w", fullScreen, Boolean(document.fullscreenElement)) : null),
    mode === "overlay" || mode === "slider" ? h("input", { type: "range", id: "table-amount", min: 0, max: 100, value: amount, "aria-label": words("table." + mode), on: { input: (event) => { amount = Number(event.target.value); repaint(); } } }) : null);
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

function drawPanes(group) {
  const keeper = keeperOf(group), laid = mode !== "side" && comparedWith(group) !== undefined, field = byId("panes");
  const members = laid ? [comparedWith(group)] : onTable(group);
  panes = members.map((at) => {
    const row = group.m[at], pair = at === keeper ? null : pairOf(group, keeper, at);
    const said = laid ? MODES[mode] + ": " + shown(group.m[keeper][KEY]) + ", " + shown(row[KEY]) : (at === keeper ? STAYS : COPY) + ": " + shown(row[KEY]);
    const canvas = h("canvas", { role: "img", "aria-label": said + ", " + row[WIDE] + " × " + row[HIGH] + (at === keeper ? "" : ", " + evidenceWords(pair)) });
    const note = h("span", { class: "pane-note" });
    const figure = h("figure", { class: "pane-one" + (at === keeper && !laid ? " is-keeper" : "") + (at === comparedWith(group) && members.length > 2 ? " is-with" : "") + (laid && mode === "difference" ? " dark" : "") }, canvas,
      h("figcaption", {}, laid ? h("span", { class: "badge" }, MODES[mode]) : at === keeper ? h("span", { class: "badge keeper" }, "★ " + STAYS) : h("span", { class: "badge " + TIERS[pair ? pair.tier : row[TIER]] }, TIER_WORDS[pair ? pair.tier : row[TIER]]),
        bdi(baseName(row[KEY]), "pane-name"), h("span", { class: "soft" }, row[WIDE] + " × " + row[HIGH]), note, h("span", { class: "soft pane-bytes" }, bytes(row[SIZE])),
        at === keeper ? null : h("span", { class: "pane-said" }, evidenceWords(pair))));
    return { at, canvas, note, figure, laid };
  });
  put(field, ...panes.map((pane) => pane.figure));
  layPanes(group);
}

// As many columns as make the pictures largest.
function layPanes(group) {
  const field = byId("panes"), wide = field.clientWidth, high = field.clientHeight, n = panes.length;
  if (!wide || !n) return;
  const box = boxOf(group, onTable(group));
  let best = 1, most = 0;
  for (let columns = 1; columns <= n; columns += 1) {
    const size = Math.min(wide / columns / box.wide, (high / Math.ceil(n / columns) - 44) / box.high);
    if (size > most) [best, most] = [columns, size];
  }
  field.style.gridTemplateColumns = "repeat(" + best + ", minmax(0, 1fr))";
  field.style.gridTemplateRows = "repeat(" + Math.ceil(n / best) + ", minmax(0, 1fr))";
}

function drawFilm(group) {
  const keeper = keeperOf(group), with_ = comparedWith(group), film = byId("film");
  const focused = film.contains(document.activeElement) ? document.activeElement.id : "";
  put(film, ...[keeper, ...othersOf(group)].map((at) => {
    const row = group.m[at], source = picture(row[PICTURE]), apart = apartOf(group).includes(at);
    return h("button", { type: "button", id: "film-" + at, class: "film-one" + (apart ? " is-apart" : ""), "aria-pressed": String(at === with_), disabled: at === keeper, title: shown(row[KEY]),
      "aria-label": (at === keeper ? STAYS : words("table.choose")) + ": " + shown(baseName(row[KEY])) + (apart ? ", " + words("table.apart") : ""), on: { click: () => { chosen = at; drawGroup(); } } },
      source ? h("img", { src: source, alt: "" }) : h("span", { class: "film-none" }, row[FORMAT]),
      h("span", { class: "film-mark", "aria-hidden": "true" }, at === keeper ? "★" : apart ? "≠" : at < 9 ? String(at + 1) : ""));
  }));
  film.hidden = group.m.length < 3;
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

// ---- painting: once a frame at the most ---------------------------------------------------------
function repaint() {
  if (seen === "table") painting ||= requestAnimationFrame(paint);
}

function paint() {
  painting = 0;
  const group = tableGroup();
  if (seen !== "table" || !group || !panes.length) return;
  const first = panes[0].canvas;
  const keeper = keeperOf(group), with_ = comparedWith(group), rank = (at) => (at === keeper ? 0 : at === with_ ? 1 : 2);
  spare(onTable(group).sort((one, two) => rank(one) - rank(two)).map((at) => group.m[at]));
  if (eye.fitted && first.clientWidth) fitEye(group, onTable(group), first.clientWidth, first.clientHeight);
  for (const pane of panes) {
    const best = pane.laid ? drawLaid(pane.canvas, group, pane.at) : drawMember(pane.canvas, group, pane.at, lensOn ? lensAt : null);
    const size = best ? best.size : null;
    const note = size === null ? words("table.none") : size === "full" || (size && Math.max(group.m[pane.at][WIDE], group.m[pane.at][HIGH]) <= RENDITION) ? words("table.original") : size ? "2,048 px" : GATE && GATE.pictures && isLoading(group.m[pane.at]) ? words("table.loading") : words("table.preview");
    if (pane.note.textContent !== note) pane.note.textContent = note;
  }
  const scale = Math.round(eye.zoom * density() * 100) + " %";
  if (byId("table-scale") && byId("table-scale").textContent !== scale) byId("table-scale").textContent = scale;
}

// ---- moving -------------------------------------------------------------------------------------
function fitTable() {
  eye.fitted = true;
  repaint();
}

// Zooms so that what is at this place of a pane (0..1) stays there.
function zoomBy(by, at = { x: 0.5, y: 0.5 }) {
  const canvas = panes[0] && panes[0].canvas, group = tableGroup();
  if (!canvas || !eye.zoom) return;
  const wide = canvas.clientWidth, high = canvas.clientHeight, keeper = group.m[keeperOf(group)];
  const off = [(at.x - 0.5) * wide / Math.max(1, keeper[WIDE]), (at.y - 0.5) * high / Math.max(1, keeper[HIGH])];
  const least = Math.min(eye.zoom, Math.min(wide / Math.max(1, keeper[WIDE]), high / Math.max(1, keeper[HIGH])) / 4);
  const zoomed = Math.min(MOST_ZOOM, Math.max(least, eye.zoom * by));
  eye.x += off[0] / eye.zoom - off[0] / zoomed;
  eye.y += off[1] / eye.zoom - off[1] / zoomed;
  eye.zoom = zoomed;
  eye.fitted = false;
  clampEye();
  repaint();
}

function panBy(x, y) {
  const group = tableGroup(), keeper = group.m[keeperOf(group)];
  eye.x -= x / (eye.zoom * Math.max(1, keeper[WIDE]));
  eye.y -= y / (eye.zoom * Math.max(1, keeper[HIGH]));
  eye.fitted = false;
  clampEye();
  repaint();
}

function toggleWhole(at) {
  const whole = 1 / density();
  if (!eye.fitted && Math.abs(eye.zoom - whole) < 1e-6) return fitTable();
  zoomBy(whole / eye.zoom, at && at.x !== undefined && !at.type ? at : undefined);
}

const toggle = (flip) => () => { flip(); drawTable(); };
const toggleLens = toggle(() => { lensOn = !lensOn; });
const toggleMarks = toggle(() => { marksOn = !marksOn; });
const togglePair = toggle(() => { pairOnly = !pairOnly; eye.fitted = true; });

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch(() => toast(words("table.nofull")));
}

// The places that differ, in the keeper's frame.
function differences(group) {
  const keeper = keeperOf(group), other = comparedWith(group), pair = other === undefined ? null : pairOf(group, keeper, other);
  if (!pair) return [];
  return placesOf(pair).map((one) => (one.inTwo ? through(inverse(pair.map), one.at) : one.at));
}

function nextPlace() {
  const found = differences(tableGroup());
  if (!found.length) return toast(words("table.nowhere"));
  place = (place + 1) % found.length;
  [eye.x, eye.y] = found[place];
  eye.zoom = Math.max(eye.fitted ? 0 : eye.zoom, 1 / density());
  eye.fitted = false;
  clampEye();
  repaint();
}

const IN_TABLE = {
  Escape: () => (lensOn ? toggleLens() : mode !== "side" ? setMode(mode) : closeTable()),
  t: closeTable, "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: fitTable, z: () => toggleWhole(), m: toggleLens, h: toggleMarks, p: togglePair, n: nextPlace, w: fullScreen,
  ArrowLeft: () => panBy(80, 0), ArrowRight: () => panBy(-80, 0), ArrowUp: () => panBy(0, 80), ArrowDown: () => panBy(0, -80),
};

// ---- pointers: drag, wheel, two fingers, double click --------------------------------------------
const fingers = new Map();

function within(event) {
  // By its place: while it drags, all events of a pointer are the field's.
  for (const { canvas } of panes) {
    const box = canvas.getBoundingClientRect(), at = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    if (at.x >= 0 && at.x <= 1 && at.y >= 0 && at.y <= 1) return at;
  }
  return null;
}

function startTable() {
  const field = byId("panes");
  field.addEventListener("wheel", (event) => {
    const at = within(event);
    if (!at) return;
    event.preventDefault();
    zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * (event.deltaMode ? 30 : 1))) / 300), at);
  }, { passive: false });
  field.addEventListener("dblclick", (event) => toggleWhole(within(event) || undefined));
  field.addEventListener("pointerdown", (event) => {
    if (!within(event) || event.button) return;
    field.setPointerCapture?.(event.pointerId);
    fingers.set(event.pointerId, event);
  });
  field.addEventListener("pointermove", (event) => {
    const at = within(event);
    if (at) lensAt = at;
    const before = fingers.get(event.pointerId);
    if (!before) return lensOn ? repaint() : undefined;
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    const moved = [event.clientX - before.clientX, event.clientY - before.clientY];
    fingers.set(event.pointerId, event);
    if (!other) {
      if (mode === "slider") {
        const box = panes[0].canvas.getBoundingClientRect();
        amount = Math.min(100, Math.max(0, (event.clientX - box.left) / box.width * 100));
        if (byId("table-amount")) byId("table-amount").value = amount;
        return repaint();
      }
      return panBy(...moved);
    }
    const far = (one) => Math.hypot(one.clientX - other[1].clientX, one.clientY - other[1].clientY);
    panBy(moved[0] / 2, moved[1] / 2);
    zoomBy(far(event) / Math.max(1, far(before)));
  });
  for (const kind of ["pointerup", "pointercancel"]) field.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  new ResizeObserver(() => {
    if (seen !== "table" || !tableGroup()) return;
    layPanes(tableGroup());
    repaint();
  }).observe(field);
  document.addEventListener("fullscreenchange", () => { if (seen === "table") drawTable(); });
}
