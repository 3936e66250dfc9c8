// The groups in batches by what differs: looked at together, decided on at once.
const EXAMPLES = 3;

function drawBatches() {
  const found = DATA.batches.map((name, kind) => ({ name, kind, groups: GROUPS.filter((group) => group.k === kind) })).filter((one) => one.groups.length);
  const focused = document.activeElement && byId("view-batches").contains(document.activeElement) ? document.activeElement.id : "";
  put(byId("view-batches"), h("h1", {}, words("batches.title")), h("p", { class: "soft lead" }, words("batches.lead")),
    found.length ? h("ul", { class: "batch-list" }, ...found.map(batchCard)) : h("p", {}, words("batches.none")));
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

function batchCard({ name, kind, groups }) {
  const files = groups.reduce((sum, group) => sum + group.n - 1, 0), size = groups.reduce((sum, group) => sum + group.b, 0);
  const decided = groups.filter((group) => { const word = decisionOf(group); return word && word !== "skip"; }).length;
  const open = groups.filter((group) => !closed(group) && (!decisionOf(group) || decisionOf(group) === "skip"));
  const asks = open.filter((group) => !refused(group) && mustAsk(group)), never = open.filter(refused), ready = open.length - asks.length - never.length;
  const reasons = [[asks.length, words("ui.left.asks")], [never.length, words("ui.left.refused")]].filter(([n]) => n);
  const count = counted(groups.length, "group"), id = "batch-" + name;
  return h("li", { class: "batch", "aria-labelledby": id },
    h("div", { class: "batch-head" }, h("h2", { id }, words("batch." + name)), h("p", { class: "soft small" }, words("batch." + name + ".means")),
      h("p", {}, h("b", {}, words("batches.facts", { groups: count, files: counted(files, "duplicate"), bytes: bytes(size) }))),
      h("p", { class: "soft small" }, words("batches.done", { decided: number(decided), groups: number(groups.length) })),
      reasons.length ? h("p", { class: "soft small" }, words("ui.left", { reasons: reasons.map(([n, why]) => number(n) + " " + why).join(", ") })) : null),
    h("div", { class: "batch-examples" }, ...groups.slice(0, EXAMPLES).map((group) => example(group))),
    h("div", { class: "batch-acts" },
      h("button", { type: "button", id: "look-" + name, on: { click: () => lookThrough(kind) } }, words("batches.look")),
      h("button", { type: "button", id: "decide-" + name, class: ready ? "primary" : null, disabled: !ready, on: { click: () => openBulk(kind) } }, words(ready ? "batches.decide" : "batches.decided", { groups: counted(ready, "group") }))));
}

// The file that stays and a duplicate, with the evidence drawn on them.
function example(group) {
  const keeper = keeperOf(group), other = othersOf(group)[0], at = byGroup.get(group.i);
  if (other === undefined) return null;
  const said = words("batches.example", { keeper: shown(baseName(group.m[keeper][KEY])), copy: shown(baseName(group.m[other][KEY])) });
  const one = (member) => {
    const row = group.m[member], source = picture(row[PICTURE]), [wide, high] = sides(row), met = pairOf(group, member, member === keeper ? other : keeper);
    return source ? s("svg", { viewBox: "0 0 " + wide + " " + high, "aria-hidden": "true" }, s("image", { href: source, width: wide, height: high, preserveAspectRatio: "none" }), ...(met ? outlines(met, wide, high) : [])) : h("span", { class: "soft small" }, row[FORMAT]);
  };
  return h("button", { type: "button", class: "batch-example", title: said, "aria-label": said, on: { click: () => { clearFilters(); byId("by-kind").value = group.k; applyFilters(); go(at); } } }, one(keeper), one(other));
}

function lookThrough(kind) {
  clearFilters();
  byId("by-kind").value = kind;
  applyFilters();
  if (order.length) go(order.find((at) => !decisionOf(GROUPS[at])) ?? order[0]);
}
