// One group: its members side by side, what differs, why, what would be done, and the decision.
let chosen = -1; // the member compared with the keeper

function comparedWith(group) {
  const others = othersOf(group);
  return others.includes(chosen) ? chosen : others[0];
}

function drawGroup() {
  const group = GROUPS[current], place = byId("group");
  if (!group || !order.length) {
    put(place, h("p", { class: "empty soft" }, GROUPS.length ? words("batches.none") : words("ui.none")));
    put(byId("acts"));
    return;
  }
  if (seen === "table") {
    place.dataset.group = group.i;
    drawActs(group);
    return drawTable();
  }
  const open = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = byId("sheet") ? byId("sheet").scrollLeft : 0;
  put(place, ...[groupHead(group), stage(group), sheet(group), planPart(group)].filter(Boolean));
  place.dataset.group = group.i;
  if (byId("sheet")) byId("sheet").scrollLeft = scrolled;
  drawActs(group);
  if (open && byId(open)) byId(open).focus({ preventScroll: true });
}

function groupHead(group) {
  const place = order.indexOf(current) + 1;
  return h("header", { class: "group-head" },
    h("button", { type: "button", class: "back small", on: { click: () => byId("view-groups").classList.remove("opened") } }, "‹ " + words("ui.list")),
    h("h1", {}, h("span", { class: "soft" }, place ? words("ui.place", { at: number(place), all: number(order.length) }) + " · " : ""), bdi(baseName(group.m[keeperOf(group)][KEY]))),
    h("p", { class: "soft facts-line" },
      h("span", { class: "badge " + TIERS[group.t], title: percent(group.q) }, TIER_WORDS[group.t]),
      group.s < 2 ? h("span", { class: "badge" }, STATES[group.s]) : null,
      h("span", {}, words("ui.saved", { files: counted(group.n, "file"), bytes: bytes(group.b) })),
      h("a", { href: "#" + group.i, class: "mono small", title: words("ui.link") }, group.i.slice(0, 10)),
      ...(group.r || []).filter((id) => byGroup.has(id)).map((id) => h("a", { class: "small", href: "#" + id }, words("ui.near", { group: id.slice(0, 8) })))));
}

// ---- side by side --------------------------------------------------------------------------------
function sheet(group) {
  const keeper = keeperOf(group), columns = [keeper, ...othersOf(group)], with_ = comparedWith(group);
  const table = h("table", { class: "sheet-table" },
    h("caption", { class: "hidden" }, words("ui.caption")),
    h("thead", {}, h("tr", {}, h("td", { class: "corner" }), ...columns.map((at) => memberHead(group, at, keeper, with_)))),
    h("tbody", {}, ...factRows(group, columns)));
  const more = group.n - group.m.length;
  return h("div", {}, h("div", { class: "sheet", id: "sheet", tabindex: 0, role: "group", "aria-label": words("ui.members") }, table),
    more > 0 ? h("p", { class: "soft" }, words("ui.morefiles", { files: counted(more, "more file") })) : null);
}

function memberHead(group, at, keeper, with_) {
  const member = group.m[at], isKeeper = at === keeper, pair = isKeeper ? null : pairOf(group, keeper, at);
  const apart = apartOf(group).includes(at), tier = pair ? pair.tier : member[TIER], blocked = Boolean(closed(group));
  return h("th", { scope: "col", class: "member" + (isKeeper ? " is-keeper" : "") + (apart ? " is-apart" : "") },
    h("div", { class: "member-top" },
      isKeeper ? h("span", { class: "badge keeper" }, "★ " + STAYS) : h("span", { class: "badge " + TIERS[tier], title: percent(pair ? pair.score : member[SCORE]) }, TIER_WORDS[tier]),
      apart ? h("span", { class: "badge bad" }, "≠ " + words("table.apart")) : null,
      h("span", { class: "soft small" }, at < 9 ? h("kbd", {}, String(at + 1)) : "")),
    drawn(group, at, keeper, with_),
    isKeeper ? null : h("p", { class: "said" }, evidenceWords(pair)),
    h("div", { class: "path" }, h("span", { class: "soft" }, bdi(folder(member[KEY]))), bdi(baseName(member[KEY]))),
    isKeeper ? h("p", { class: "soft small" }, group.p && group.p.why.length && !keeper ? words("ui.stays.why", { why: group.p.why.map(shown).join("; ") }) : keeper ? words("ui.picked") : words("ui.stays"))
      : h("div", { class: "member-acts" },
        h("button", { type: "button", id: "keep-" + at, class: "small", disabled: blocked, on: { click: () => setKeeper(group, at) } }, words("ui.keep")),
        group.m.length > 2 ? h("button", { type: "button", id: "apart-" + at, class: "small", disabled: blocked, "aria-pressed": String(apart), on: { click: () => toggleApart(group, at) } }, words("ui.notcopy")) : null,
        group.m.length > 2 ? h("button", { type: "button", id: "with-" + at, class: "small", "aria-pressed": String(at === with_), on: { click: () => { chosen = at; drawGroup(); } } }, words("ui.compare")) : null));
}

// A thumbnail, with where it meets the other one and what was added drawn on it.
function drawn(group, at, keeper, with_) {
  const member = group.m[at], source = picture(member[PICTURE]), isKeeper = at === keeper;
  const pair = isKeeper ? null : pairOf(group, keeper, at);
  const said = (isKeeper ? STAYS + ": " : COPY + ", " + TIER_WORDS[pair ? pair.tier : member[TIER]] + ", " + evidenceWords(pair) + ": ")
    + shown(member[KEY]) + ", " + member[WIDE] + " × " + member[HIGH] + " " + member[FORMAT];
  if (!source) return h("div", { class: "pic none soft" }, words("ui.nopicture"), h("span", { class: "hidden" }, said));
  const [wide, high] = sides(member);
  const other = isKeeper ? with_ : keeper, met = other === undefined ? null : pairOf(group, at, other);
  return h("button", { type: "button", class: "pic", title: words("table.open"), on: { click: () => { if (!isKeeper) chosen = at; openTable(); } } }, s("svg", { viewBox: "0 0 " + wide + " " + high, role: "img", "aria-label": said },
    s("image", { href: source, width: wide, height: high, preserveAspectRatio: "none" }), ...(met ? outlines(met, wide, high) : [])));
}

function outlines(pair, wide, high) {
  const back = inverse(pair.map); // of the other picture's frame into this one
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map((corner) => through(back, corner)).map(([x, y]) => [x * wide, y * high]);
  const frame = "M" + corners.map(([x, y]) => x.toFixed(1) + " " + y.toFixed(1)).join("L") + "Z";
  const inside = corners.some(([x, y]) => (x > wide * 0.02 && x < wide * 0.98) || (y > high * 0.02 && y < high * 0.98));
  const marks = [];
  if (inside) {
    marks.push(s("path", { class: "beyond", "fill-rule": "evenodd", d: "M0 0H" + wide + "V" + high + "H0Z" + frame }));
    marks.push(s("path", { class: "frame-under", d: frame }), s("path", { class: "frame", d: frame }));
  }
  for (const place of placesOf(pair)) {
    const spot = place.inTwo ? through(back, place.at) : place.at;
    const radius = Math.max(0.05, 1.25 * Math.sqrt(place.share / Math.PI));
    const around = { cx: spot[0] * wide, cy: spot[1] * high, rx: radius * wide * 1.15, ry: radius * high * 0.85 };
    marks.push(s("ellipse", { class: "spot-under", ...around }), s("ellipse", { class: "spot", ...around }));
  }
  return marks;
}

// ---- what differs -------------------------------------------------------------------------------
function factRows(group, columns) {
  const rows = [
    [words("ui.fact.pixels"), (row) => row[WIDE] + " × " + row[HIGH], (row) => row[WIDE] * row[HIGH], [words("ui.smaller"), words("ui.larger")]],
    [words("ui.fact.size"), (row) => bytes(row[SIZE]), (row) => row[SIZE], [words("ui.smaller"), words("ui.larger")]],
    [words("ui.fact.format"), (row) => row[FORMAT].toUpperCase()],
    [words("ui.fact.quality"), (row) => (row[QUALITY] ? words("ui.about", { number: row[QUALITY] }) : "–"), (row) => row[QUALITY] || 0, [words("ui.lower"), words("ui.higher")]],
    [words("ui.fact.uploaded"), (row) => moment(row[WHEN]), (row) => row[WHEN] || 0, [words("ui.earlier"), words("ui.later")]],
    [words("ui.fact.label"), (row) => row[LABEL] || "–"],
    [words("ui.fact.flags"), (row) => row[FLAGS].join(", ") || "–"],
  ].map(([name, told, measure, said]) => [name, group.m.map(told), group.m.map(measure || told), said]);
  for (const [name, value] of Object.entries(group.f || {})) {
    const values = Array.isArray(value) ? value.map((one) => (one === null ? "–" : one)) : group.m.map(() => value);
    rows.push([name, values, values]);
  }
  const keeper = columns[0], same = [], out = [];
  for (const [name, values, measures, said] of rows) {
    if (values.every((value) => value === values[0])) {
      if (values[0] !== "–") same.push([name, values[0]]);
      continue;
    }
    out.push(h("tr", {}, h("th", { scope: "row" }, shown(name)), ...columns.map((at) => {
      const asked = conflictOf(group, name), told = asked ? choice(group, asked[0], values[at], at) : bdi(values[at]);
      if (values[at] === values[keeper]) return h("td", { class: at === keeper ? "kept" : null, "data-label": shown(name) }, told, at === keeper && asked ? result(group, asked[0]) : null);
      const how = said && values[at] !== "–" && values[keeper] !== "–" ? " " + said[measures[at] > measures[keeper] ? 1 : 0] : "";
      return h("td", { class: "differs", "data-label": shown(name) }, h("span", { "aria-hidden": "true" }, "≠ "), h("span", { class: "hidden" }, words("ui.differs") + " "), told, h("span", { class: "how" }, how));
    })));
  }
  if (same.length) out.push(h("tr", { class: "same" }, h("th", { scope: "row" }, words("ui.equal")), h("td", { colspan: columns.length }, ...same.flatMap(([name, value], nth) => [nth ? " · " : "", h("span", { class: "soft" }, shown(name) + " "), bdi(value)]))));
  return out;
}

// ---- what would be done ---------------------------------------------------------------------------
function planPart(group) {
  const plan = group.p, value = (text) => (text === null ? h("span", { class: "soft" }, words("choice.nothing")) : bdi(text));
  if (refused(group)) return h("section", { class: "part" }, h("h2", {}, words("ui.whynot")), h("p", {}, h("b", { class: "bad" }, shown(plan.line) + ".")), h("p", { class: "soft small" }, words("ui.policywords") + " ", bdi(plan.refused)));
  const parts = [h("h2", {}, words("ui.ifpressed"))];
  if (!plan) parts.push(h("p", {}, lineOf(group) + "."));
  else {
    parts.push(h("p", { class: "does" }, h("b", {}, lineOf(group) + "."), " ", h("span", { class: "soft small" }, words("ui.rule", { rule: shown(plan.rule) }) + (plan.same ? "; " + words("ui.samefields", { fields: counted(plan.same, "field") }) : ""))));
    if (group.m[keeperOf(group)][KEY] !== plan.keeper && plan.acts) parts.push(h("p", { class: "warn" }, words("ui.otherkeeper")));
    if (apartOf(group).length) parts.push(h("p", { class: "warn" }, words("ui.rest")));
    if (plan.fields.length) parts.push(h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": words("ui.takes") }, h("table", { class: "merge" }, h("thead", {}, h("tr", {}, ...[words("ui.field"), words("ui.has"), words("ui.others.have"), words("ui.gets")].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...plan.fields.map(([name, had, kept, others, rule, conflict]) => h("tr", {}, h("th", { scope: "row" }, bdi(name)), h("td", {}, conflict ? choice(group, name, had, "had") : value(had)),
        h("td", {}, ...others.map(([text, times], nth) => [nth ? ", " : "", conflict && text !== had ? choice(group, name, text, "o" + nth) : value(text), times > 1 ? h("span", { class: "soft" }, " (" + counted(times, "file") + ")") : ""]).flat()),
        h("td", {}, conflict ? result(group, name) || lost(name, kept, others) : h("b", {}, "+ ", value(kept)), h("span", { class: "soft small" }, " (" + shown(rule) + ")"))))))));
    for (const [nth, question] of plan.questions.entries()) parts.push(h("p", { class: "warn" }, plan.asks.indexOf(plan.asks[nth]) < nth ? null : [h("b", {}, words("ui.question") + " "), shown(plan.asks[nth]) + " "], plan.asks[nth] === question ? null : h("span", { class: "small" }, "(" + shown(question) + ")")));
    if (Object.keys(otherValues(group)).length) parts.push(h("p", { class: "warn" }, words("choice.anew")));
    if (conflictsOf(group).length) parts.push(h("p", { class: "soft small" }, words("choice.how")));
    if (mustAsk(group)) parts.push(h("label", { class: "read" }, h("input", { type: "checkbox", id: "read", checked: recordOf(group).q, on: { change: (event) => { records.set(group.i, { ...recordOf(group), q: event.target.checked }); keep(); } } }), " " + words("ui.read")));
  }
  return h("section", { class: "part" }, ...parts);
}

// What a conflict costs: the values that would go, each named.
function lost(name, kept, others) {
  const field = shown(name.slice(name.indexOf(".") + 1));
  const gone = others.filter(([text]) => text !== kept).map(([text]) => h("b", { class: "bad" }, words("lost", { field, value: shown(text) })));
  return gone.flatMap((one, nth) => (nth ? [", ", one] : [one]));
}

const sentence = (said) => said.replace(/^./, (first) => first.toUpperCase());

// What the button of a group says, and the line beside it that says what happens then.
function pressOf(group) {
  if (apartOf(group).length) return words("press.rest");
  if (picksAnew(group)) return words(group.m[keeperOf(group)][KEY] !== group.p.keeper ? "press.other" : "press.values");
  return group.p ? group.p.press : words("press.report");
}

const lineOf = (group) => (apartOf(group).length || picksAnew(group) ? sentence(words(apartOf(group).length ? "line.apart" : "line.anew")) : group.p ? shown(group.p.line) : sentence(words(PLAN ? "line.unplanned" : "line.none")));

function drawActs(group) {
  const decision = decisionOf(group), why = closed(group) || gateWords(group), blocked = Boolean(closed(group));
  const button = (name, key, label, kind) => h("button", { type: "button", id: "act-" + name, class: kind, disabled: blocked, "aria-pressed": String(decision === name), "aria-keyshortcuts": key, on: { click: () => decide(group, name) } }, label, " ", h("kbd", {}, key));
  const focused = document.activeElement && document.activeElement.id;
  put(byId("acts"), 
    h("p", { class: "line small" + (refused(group) ? " bad" : ""), id: "act-line" }, lineOf(group) + (mustAsk(group) && !answered(group) ? "; " + words("line.asks", { asks: [...new Set(group.p.asks)].map(shown).join("; ") }) : "") + "."),
    h("button", { type: "button", class: "turn", "aria-label": words("ui.previous"), on: { click: () => step(-1) } }, "‹"),
    refused(group) ? null : button("accept", "a", "✓ " + pressOf(group), "accept"), button("distinct", "d", "≠ " + words("decide.distinct"), "distinct"), button("linked", "l", "⚭ " + words("decide.linked"), "linked"), button("skip", "s", "↷ " + words("decide.skip"), ""),
    blocked && held.has(group.i) && held.get(group.i)[3] ? h("button", { type: "button", id: "act-again", "aria-keyshortcuts": "y", on: { click: () => reopen(group) } }, words("decide.again") + " ", h("kbd", {}, "y")) : null,
    h("button", { type: "button", id: "act-undo", "aria-keyshortcuts": "u", on: { click: undo } }, words("decide.undo") + " ", h("kbd", {}, "u")),
    h("button", { type: "button", class: "turn", "aria-label": words("ui.next"), on: { click: () => step(1) } }, "›"),
    h("span", { class: "state small" }, why || (decision ? words("ui.you." + decision) : ""),
      replanned && GATE ? h("a", { href: replanned }, " " + words("ui.newplan")) : null));
  if (focused && focused.startsWith("act-") && byId(focused)) byId(focused).focus({ preventScroll: true });
}
