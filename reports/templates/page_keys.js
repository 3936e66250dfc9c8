// Views, keys and the start.
const KEYS = [
  ["j ↓ →", words("ui.keys.next")], ["k ↑ ←", words("ui.keys.previous")], ["a", words("ui.keys.merge")], ["d", words("decide.distinct")], ["l", words("decide.linked")],
  ["s", words("decide.skip")], ["u", words("ui.keys.undo")], ["y", words("keys.again")], ["1 … 9", words("ui.keys.stay")], ["o", words("ui.mode.overlay")], ["f", words("ui.mode.flicker")], ["x", words("ui.mode.slider")], ["e", words("ui.mode.difference")],
  ["t", words("table.open")], ["+ -", words("keys.zoom")], ["0", words("keys.fit")], ["z", words("keys.whole")], ["m", words("table.lens")], ["h", words("table.marks")], ["n", words("table.next")], ["p", words("table.pair")], ["w", words("table.full")],
  ["c", words("ui.keys.compare")], ["i", words("keys.apart")], ["q", words("keys.question")], ["b", words("ui.keys.many")], ["v", words("batches.title")], ["r", words("rules.title")], ["g", words("ui.keys.graph")], ["/", words("ui.keys.search")], ["Esc", words("ui.keys.esc")], ["?", words("ui.keys.help")],
];
const VIEWS = ["overview", "groups", "table", "batches", "rules", "graph"];

function view(name) {
  if (name === seen) return;
  seen = name;
  for (const one of VIEWS) {
    byId("view-" + one).hidden = one !== name;
    const link = byId("to-" + one);
    if (!link) continue;
    if (one === name || (one === "groups" && name === "table")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.className = "on-" + name;
  if (name !== "groups") clearInterval(flickering);
  if (name !== "table") forgetWishes();
  byId(name === "table" ? "table-foot" : "pane").append(byId("acts")); // one bar, where it is needed
  if (name === "groups") {
    reveal();
    drawList();
    drawGroup();
  }
  if (name === "table") {
    drawGroup();
    byId("panes").focus({ preventScroll: true }); // what was pressed is hidden now
  }
  if (name === "batches") drawBatches();
  if (name === "rules") drawRules();
  if (name === "graph") layGraph();
}

function route() {
  let place = decodeURIComponent(location.hash.slice(1));
  const table = place.startsWith("table/");
  if (table) place = place.slice(6);
  if (byGroup.has(place)) {
    if (!order.includes(byGroup.get(place))) clearFilters();
    if (table) show(byGroup.get(place));
    if (table !== (seen === "table")) view(table ? "table" : "groups");
    return go(byGroup.get(place));
  }
  if (place === "coverage") {
    view("overview");
    return byId("coverage").scrollIntoView();
  }
  view(["groups", "batches", "rules", "graph"].includes(place) ? place : "overview");
  if (place === "groups") byId("view-groups").classList.remove("opened");
  scrollTo(0, 0);
}

function clearFilters() {
  byId("search").value = "";
  for (const id of FILTERS) byId(id).value = "";
  applyFilters();
}

function openKeys() {
  const dialog = byId("keys");
  put(dialog, h("h2", { id: "keys-title" }, words("ui.keys")), h("dl", { class: "keys" }, ...KEYS.flatMap(([key, label]) => [h("dt", {}, ...key.split(" ").map((one) => (one === "…" ? " … " : h("kbd", {}, one)))), h("dd", {}, label)])),
    h("div", { class: "end" }, h("button", { type: "button", on: { click: () => dialog.close() } }, words("ui.close"))));
  dialog.showModal();
}

const withGroup = (act) => () => { if (GROUPS[current] && order.length) act(GROUPS[current]); };
const IN_GROUPS = {
  j: () => step(1), ArrowDown: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), ArrowLeft: () => step(-1),
  a: withGroup((group) => decide(group, "accept")), d: withGroup((group) => decide(group, "distinct")), l: withGroup((group) => decide(group, "linked")), s: withGroup((group) => decide(group, "skip")),
  o: () => setMode("overlay"), f: () => setMode("flicker"), x: () => setMode("slider"), e: () => setMode("difference"),
  c: withGroup((group) => { const others = othersOf(group); chosen = others[(others.indexOf(comparedWith(group)) + 1) % others.length]; drawGroup(); }),
  i: withGroup((group) => (group.m.length > 2 ? toggleApart(group, comparedWith(group)) : toast(words("keys.apart.two")))), y: withGroup(reopen), t: openTable, q: withGroup(() => nextQuestion()), Escape: () => { if (mode !== "side") setMode(mode); },
};
const ANYWHERE = { u: undo, "?": openKeys, b: () => openBulk(), v: () => { location.hash = "batches"; }, r: () => { location.hash = "rules"; }, g: () => { location.hash = "graph"; }, "/": () => { location.hash = "groups"; view("groups"); byId("search").focus(); } };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inside = event.target.closest?.("input:not([type=checkbox]), select, textarea, #field");
  if (inside) {
    if (event.key === "Escape" && inside.id !== "field") inside.blur();
    if (inside.id !== "field" || event.key.startsWith("Arrow")) return;
  }
  const sheetKeys = event.target.id === "sheet" && ["ArrowLeft", "ArrowRight"].includes(event.key); // these scroll it
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = (seen === "table" && IN_TABLE[key]) || ANYWHERE[key] || (seen === "table" || (seen === "groups" && !sheetKeys) ? IN_GROUPS[key] : null);
  if (act) {
    event.preventDefault();
    act();
  } else if ((seen === "groups" || seen === "table") && /^[1-9]$/.test(key) && GROUPS[current]) setKeeper(GROUPS[current], Number(key) - 1);
  else if (seen === "overview" && key === "j" && GROUPS.length) {
    event.preventDefault();
    forwardFromStart();
  }
});

// From the overview: the first group that waits.
function forwardFromStart() {
  const first = order.find((at) => !decisionOf(GROUPS[at]));
  go(first === undefined ? order[0] : first);
}

// ---- on paper: groups as they are filtered, as far as anybody would read them -------------------
const ON_PAPER = 200;

function paper() {
  const some = order.slice(0, ON_PAPER).map((at, place) => {
    const group = GROUPS[at], keeper = keeperOf(group), decision = decisionOf(group);
    return h("section", {}, h("h3", {}, number(place + 1) + ". " + TIER_WORDS[group.t] + ", " + counted(group.n, "file") + ", " + bytes(group.b) + (decision ? " · " + WORDS[decision] : "") + " · " + group.i.slice(0, 10)),
      h("div", { class: "line" }, ...[keeper, ...othersOf(group)].slice(0, 8).map((at_) => {
        const row = group.m[at_], source = picture(row[PICTURE]);
        return h("figure", {}, source ? h("img", { src: source, alt: "" }) : null, h("b", {}, at_ === keeper ? "★ " + STAYS + " " : COPY + " "), bdi(row[KEY]), h("br"), row[WIDE] + " × " + row[HIGH] + " " + row[FORMAT] + ", " + bytes(row[SIZE]),
          at_ === keeper ? null : h("p", {}, evidenceWords(pairOf(group, keeper, at_))));
      })), group.p ? h("p", {}, shown(group.p.line) + ".") : null);
  });
  put(byId("paper"), h("h2", {}, words("ui.groups")), ...some, ...(order.length > ON_PAPER ? [h("p", {}, words("ui.more", { more: counted(order.length - ON_PAPER, "more group") }))] : []));
}

// ---- start ---------------------------------------------------------------------------------------
recall();
recallRule();
resume();
fillFilters();
byId("clear-filters").addEventListener("click", clearFilters);
for (const id of [...FILTERS, "sort"]) byId(id).addEventListener("change", applyFilters);
byId("search").addEventListener("input", applyFilters);
byId("list").addEventListener("scroll", () => requestAnimationFrame(drawList), { passive: true });
byId("field").addEventListener("scroll", () => requestAnimationFrame(drawGraph), { passive: true });
byId("zoom-in").addEventListener("click", () => zoom(1.25));
byId("zoom-out").addEventListener("click", () => zoom(0.8));
byId("open-export").addEventListener("click", openExport);
byId("open-keys").addEventListener("click", openKeys);
byId("open-bulk").addEventListener("click", () => openBulk());
byId("open-bulk-top")?.addEventListener("click", () => openBulk());
byId("start")?.addEventListener("click", (event) => { event.preventDefault(); forwardFromStart(); });
addEventListener("hashchange", route);
addEventListener("resize", () => { if (seen === "graph") layGraph(); else drawList(); });
addEventListener("beforeprint", paper);
addEventListener("afterprint", () => put(byId("paper")));
addEventListener("beforeunload", (event) => { if (unsaved && !keeps && !GATE) event.preventDefault(); });
addEventListener("pagehide", () => flush(true));
startTable();
changed();
route();
document.documentElement.dataset.ready = "yes";
