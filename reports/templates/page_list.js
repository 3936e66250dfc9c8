// The list of groups: filtered, sorted, and only what is in sight is in the document.
const ROW = 74;
let order = GROUPS.map((_, at) => at); // of the groups that pass the filter
let current = 0; // of GROUPS
let texts = null; // what a search looks through, made when it is first asked

const FILTERS = ["by-tier", "by-state", "by-decision", "by-kind", "by-folder", "by-owner", "by-age", "by-bytes"];

const filters = () => ({
  kind: byId("by-kind").value, place: byId("by-folder").value, owner: byId("by-owner").value, age: byId("by-age").value, least: Number(byId("by-bytes").value),
  wanted: byId("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean),
  tier: byId("by-tier").value, state: byId("by-state").value,
  decision: byId("by-decision").value, sort: byId("sort").value,
});

function textOf(at) {
  texts ||= [];
  const group = GROUPS[at];
  texts[at] ??= [group.i, ...group.m.flatMap((row) => [row[KEY], row[LABEL] || ""]),
    ...Object.entries(group.f || {}).map(([name, value]) => name + "=" + (Array.isArray(value) ? value.join(" ") : value))].join("\n").toLowerCase();
  return texts[at];
}

// Who the files of a group belong to, by the fields that are called so.
const OWNER = /(^|[.:])(owner|creator|artist|uploader)$/i;
function ownersOf(group) {
  const found = Object.entries(group.f || {}).filter(([name]) => OWNER.test(name)).flatMap(([, value]) => value);
  return [...new Set(found.filter(Boolean))];
}

const foldersOf = (group) => [...new Set(group.m.map((row) => folder(row[KEY])))];
const newest = (group) => Math.max(...group.m.map((row) => row[WHEN] || 0));
const DAY = 86400, NOW = GROUPS.reduce((latest, group) => Math.max(latest, newest(group)), 0); // of the latest upload: a report is read later too
const OF_AGE = (group, age) => (age === "old" ? newest(group) < NOW - 365 * DAY : newest(group) >= NOW - Number(age) * DAY);

// The values that some filters offer: those there are, the most frequent first.
function fillFilters() {
  const counts = (valuesOf) => {
    const found = new Map();
    for (const group of GROUPS) for (const value of valuesOf(group)) found.set(value, (found.get(value) || 0) + 1);
    return [...found].sort((one, two) => two[1] - one[1] || (one[0] < two[0] ? -1 : 1)).slice(0, 200);
  };
  const offer = (id, pairs) => byId(id).append(...pairs.map(([value, label, n]) => h("option", { value }, label + " (" + number(n) + ")")));
  offer("by-kind", DATA.batches.map((name, at) => [at, words("batch." + name), GROUPS.filter((group) => group.k === at).length]).filter(([, , n]) => n));
  offer("by-folder", counts(foldersOf).map(([value, n]) => [value || "/", shown(value || "/"), n]));
  offer("by-owner", counts(ownersOf).map(([value, n]) => [value, shown(value), n]));
}

const oldest = (group) => Math.min(...group.m.map((row) => row[WHEN] || Infinity));
const compare = (one, two) => (one < two ? -1 : one > two ? 1 : 0);
const SORTS = {
  b: (one, two) => two.b - one.b, low: (one, two) => one.q - two.q, high: (one, two) => two.q - one.q,
  n: (one, two) => two.n - one.n, new: (one, two) => newest(two) - newest(one),
  key: (one, two) => (one.m[0][KEY] < two.m[0][KEY] ? -1 : 1),
  kind: (one, two) => one.k - two.k, old: (one, two) => oldest(one) - oldest(two),
  folder: (one, two) => compare(folder(one.m[0][KEY]), folder(two.m[0][KEY])), owner: (one, two) => compare(ownersOf(one).join(), ownersOf(two).join()),
};

function applyFilters() {
  const { wanted, tier, state, decision, sort, kind, place, owner, age, least } = filters();
  order = [];
  GROUPS.forEach((group, at) => {
    if (tier !== "" && group.t !== Number(tier)) return;
    if (state !== "" && group.s !== Number(state)) return;
    if (decision === "refused" ? !refused(group) : decision === "asks" ? !mustAsk(group) : decision === "open" ? decisionOf(group) : decision && decisionOf(group) !== decision) return;
    if (kind !== "" && group.k !== Number(kind)) return;
    if (place && !group.m.some((row) => (folder(row[KEY]) || "/") === place)) return;
    if (owner && !ownersOf(group).includes(owner)) return;
    if ((age && !OF_AGE(group, age)) || group.b < least) return;
    if (wanted.length && !wanted.every((word) => textOf(at).includes(word))) return;
    order.push(at);
  });
  if (SORTS[sort]) order.sort((one, two) => SORTS[sort](GROUPS[one], GROUPS[two]) || one - two);
  byId("list").scrollTop = 0;
  if (order.length && !order.includes(current)) show(order[0]);
  drawList();
  drawGroup();
  if (seen === "graph") layGraph();
  if (seen === "batches") drawBatches();
}

function drawList() {
  const list = byId("list"), rows = byId("rows");
  byId("shown").textContent = order.length === GROUPS.length ? counted(order.length, "group") : words("ui.of", { number: number(order.length), groups: counted(GROUPS.length, "group") });
  rows.style.height = order.length * ROW + "px";
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const focused = document.activeElement && rows.contains(document.activeElement) ? document.activeElement.dataset.at : "";
  put(rows, ...order.slice(first, last).map((at, nth) => listRow(at, first + nth)));
  if (focused) rows.querySelector('[data-at="' + focused + '"]')?.focus({ preventScroll: true });
}

function listRow(at, place) {
  const group = GROUPS[at], keeper = group.m[keeperOf(group)], decision = decisionOf(group);
  const source = picture(keeper[PICTURE]);
  const row = h("li", { "aria-posinset": place + 1, "aria-setsize": order.length },
    h("button", { type: "button", class: "row-open", "data-at": at, "aria-current": at === current ? "true" : null, on: { click: () => go(at) } },
      h("span", { class: "thumb" }, source ? h("img", { src: source, alt: "", decoding: "async" }) : null),
      h("span", { class: "row-text" },
        h("span", { class: "row-name" }, bdi(baseName(keeper[KEY]))),
        h("span", { class: "row-facts" }, h("span", { class: "badge " + TIERS[group.t], title: percent(group.q) }, TIER_WORDS[group.t]), " " + counted(group.n, "file"))),
      h("span", { class: "row-end" }, h("span", { class: "row-bytes" }, bytes(group.b)),
        decision ? h("span", { class: "glyph " + decision, title: WORDS[decision] }, GLYPHS[decision], h("span", { class: "hidden" }, WORDS[decision])) : group.s < 2 ? h("span", { class: "soft small" }, STATES[group.s]) : null,
        refused(group) && !decision ? h("span", { class: "asks", title: shown(group.p.line) }, "–", h("span", { class: "hidden" }, words("ui.refused"))) : null,
        mustAsk(group) && !decision ? h("span", { class: "asks", title: words("ui.asks") }, "?", h("span", { class: "hidden" }, words("ui.asks"))) : null)));
  row.style.top = place * ROW + "px";
  return row;
}

function reveal() {
  const list = byId("list"), place = order.indexOf(current);
  if (place < 0 || !list.clientHeight) return;
  const top = place * ROW;
  if (top < list.scrollTop) list.scrollTop = top - ROW;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + 2 * ROW - list.clientHeight;
}

// ---- moving ------------------------------------------------------------------------------------
function show(at) {
  if (at === undefined || at === current) return;
  current = at;
  chosen = -1;
}

// Opens a group in the view of groups; `quiet` leaves the focus where it is.
function go(at, quiet) {
  if (at === undefined) return;
  show(at);
  const table = seen === "table";
  history.replaceState(null, "", (table ? "#table/" : "#") + GROUPS[current].i);
  view(table ? "table" : "groups");
  reveal();
  drawList();
  drawGroup();
  byId("view-groups").classList.add("opened");
  if (!quiet) byId("pane").scrollTop = 0;
}

function step(by) {
  const place = order.indexOf(current);
  const next = order[Math.min(order.length - 1, Math.max(0, place + by))];
  if (next !== undefined) go(next);
}

// After a decision: the next group that waits for one.
function forward() {
  const place = order.indexOf(current);
  for (let nth = 1; nth <= order.length; nth += 1) {
    const at = order[(place + nth) % order.length];
    if (!decisionOf(GROUPS[at]) && !closed(GROUPS[at])) return go(at);
  }
  drawList();
  drawGroup();
  const found = tally();
  toast(words("ui.all", { accepted: number(found.accept), kept: number(found.distinct + found.linked), later: number(found.skip) }) + (GATE ? "" : " " + words("ui.all.export")), true);
}

function changed() {
  const found = tally();
  byId("progress").textContent = words("ui.progress", { decided: number(found.decided), all: number(GROUPS.length), bytes: bytes(found.bytes) });
  drawList();
  drawGroup();
  if (seen === "batches") drawBatches();
  if (seen === "rules") drawRules();
}
