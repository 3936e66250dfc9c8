// The groups as a graph. Every group is a small star, so nothing has to be simulated: the keeper
// in the middle, its duplicates around it, stars packed into columns; only what is in sight is drawn.
let pitch = 230, wanting = 230, cells = [], columnsOf = 0;
const AROUND = 12; // duplicates drawn around a keeper

const span = (group) => (group.m.length > 9 ? 2 : 1);

function layGraph() {
  const field = byId("field"), wide = field.clientWidth || 1000;
  columnsOf = Math.max(2, Math.round(wide / wanting));
  pitch = Math.floor(wide / columnsOf);
  const heights = new Array(columnsOf).fill(0);
  cells = order.map((at) => {
    const size = span(GROUPS[at]);
    let best = 0, top = Infinity;
    for (let left = 0; left + size <= columnsOf; left += 1) {
      const level = Math.max(...heights.slice(left, left + size));
      if (level < top) [best, top] = [left, level];
    }
    heights.fill(top + size, best, best + size);
    return { at, x: best * pitch, y: top * pitch, side: size * pitch };
  });
  put(field, h("div", { class: "field-space" }));
  field.firstChild.style.height = Math.max(...heights, 0) * pitch + "px";
  byId("graph-shown").textContent = order.length < GROUPS.length ? words("ui.graph.filtered", { groups: counted(order.length, "group"), all: number(GROUPS.length) }) : counted(order.length, "group");
  drawGraph();
}

function drawGraph() {
  const field = byId("field"), from = field.scrollTop - pitch, to = field.scrollTop + field.clientHeight + pitch;
  const wanted = new Map(cells.filter((one) => one.y + one.side > from && one.y < to).map((one) => [one.at, one]));
  for (const old of [...field.querySelectorAll(".star")]) {
    if (wanted.has(Number(old.dataset.at))) wanted.delete(Number(old.dataset.at));
    else if (!old.contains(document.activeElement)) old.remove();
  }
  const made = [...wanted.values()].map(star);
  field.firstChild.append(...made);
}

function star({ at, x, y, side }) {
  const group = GROUPS[at], keeper = keeperOf(group), others = othersOf(group), around = others.slice(0, AROUND);
  const size = pitch * (side === pitch ? (around.length > 5 ? 0.23 : 0.27) : 0.36), middle = side / 2, ring = side * 0.355;
  const spots = new Map([[keeper, [middle, middle]]]);
  around.forEach((one, nth) => {
    const turn = -Math.PI / 2 + (2 * Math.PI * nth) / around.length + (around.length === 2 ? Math.PI / 2 : 0);
    spots.set(one, [middle + ring * Math.cos(turn), middle + ring * Math.sin(turn)]);
  });
  const edges = group.e.filter((edge) => spots.has(edge[0]) && spots.has(edge[1])).sort((one) => (one[0] === keeper || one[1] === keeper ? 1 : -1)).flatMap((edge) => {
    const [from, to] = [spots.get(edge[0]), spots.get(edge[1])], star_ = edge[0] === keeper || edge[1] === keeper;
    const path = "M" + from.map((n) => n.toFixed(1)).join(" ") + "L" + to.map((n) => n.toFixed(1)).join(" ");
    const said = () => tell(group, edge);
    return [s("path", { class: "edge " + TIERS[edge[2]] + (star_ ? "" : " weak"), d: path }), s("path", { class: "edge-hit", d: path, on: { pointerenter: said } })];
  });
  const nodes = [...spots].map(([member, [cx, cy]]) => {
    const row = group.m[member], source = picture(row[PICTURE]), big = member === keeper ? size * 1.15 : size * (around.length > 8 ? 0.8 : 1);
    const [w, hi] = sides(row), scale = big / Math.max(w, hi), wide = w * scale, high = hi * scale;
    return s("g", { class: "node" + (member === keeper ? " is-keeper" : ""), on: { pointerenter: () => tellNode(group, keeper, member) } },
      s("rect", { x: cx - wide / 2 - 2.5, y: cy - high / 2 - 2.5, width: wide + 5, height: high + 5, rx: 4 }),
      source ? s("image", { href: source, x: cx - wide / 2, y: cy - high / 2, width: wide, height: high, preserveAspectRatio: "none" }) : null,
      member === keeper ? s("text", { x: cx - wide / 2 + 3, y: cy - high / 2 + 13, class: "node-star" }, "★") : null);
  });
  const decision = decisionOf(group), more = group.n - 1 - around.length;
  const label = words("ui.graph.group", { files: counted(group.n, "file") }) + ", " + TIER_WORDS[group.t] + (decision ? ", " + WORDS[decision] : "") + ", " + words("role.keeper.low") + " " + shown(group.m[keeper][KEY]);
  const button = h("button", { type: "button", class: "star " + decision, "data-at": at, "aria-label": label, on: { click: () => go(at), focus: () => tellGroup(group) } },
    s("svg", { viewBox: "0 0 " + side + " " + side, "aria-hidden": "true" }, ...edges, ...nodes),
    decision ? h("span", { class: "star-mark glyph " + decision }, GLYPHS[decision]) : null, more > 0 ? h("span", { class: "star-more" }, "+" + number(more)) : null);
  Object.assign(button.style, { left: x + 4 + "px", top: y + 4 + "px", width: side - 8 + "px", height: side - 8 + "px" });
  return button;
}

const say = (...parts_) => put(byId("edge-said"), ...parts_.flat());
const badge = (tier, score) => h("span", { class: "badge " + TIERS[tier], title: percent(score) }, TIER_WORDS[tier]);

function tell(group, edge) {
  const [one, two] = edge[0] === keeperOf(group) ? [edge[0], edge[1]] : edge[1] === keeperOf(group) ? [edge[1], edge[0]] : [edge[0], edge[1]];
  const pair = pairOf(group, one, two);
  say(badge(pair.tier, pair.score), " ", bdi(group.m[one][KEY], "mono"), " → ", bdi(group.m[two][KEY], "mono"), ": " + evidenceWords(pair));
}

function tellNode(group, keeper, member) {
  if (member === keeper) return tellGroup(group);
  const pair = pairOf(group, keeper, member), row = group.m[member];
  say(badge(pair ? pair.tier : row[TIER], pair ? pair.score : row[SCORE]), " ", bdi(row[KEY], "mono"), " " + row[WIDE] + " × " + row[HIGH] + ", " + bytes(row[SIZE]) + ": " + evidenceWords(pair));
}

function tellGroup(group) {
  const keeper = keeperOf(group);
  say(badge(group.t, group.q), " " + STAYS + ": ", bdi(group.m[keeper][KEY], "mono"), ". ", ...othersOf(group).slice(0, 3).flatMap((at) => [bdi(baseName(group.m[at][KEY]), "mono"), ": " + evidenceWords(pairOf(group, keeper, at)) + ". "]));
}

function zoom(by) {
  const at = cells.find((one) => one.y + one.side > byId("field").scrollTop)?.at;
  wanting = Math.min(480, Math.max(110, Math.round(wanting * by)));
  layGraph();
  const now = cells.find((one) => one.at === at);
  if (now) byId("field").scrollTop = now.y;
}
