// Many groups at once, with a summary before: what is accepted, and what is left out and why.
function openBulk(kind) {
  const dialog = byId("bulk");
  const radio = (value, label, checked) => h("label", {}, h("input", { type: "radio", name: "bulk-tier", value, checked }), label);
  const sum = h("div", { class: "sum", id: "bulk-sum", role: "status" });
  const confirm = h("button", { type: "button", class: "primary", id: "bulk-do" }, words("ui.accept"));
  let chosenGroups = [];
  const read = () => {
    const tier = dialog.querySelector("[name=bulk-tier]:checked").value, prefix = byId("bulk-prefix").value;
    const batch = byId("bulk-kind").value, word = byId("bulk-word").value;
    const least = Number(byId("bulk-score").value) || 0, within = byId("bulk-filtered").checked;
    const left = { decided: 0, closed: 0, asks: 0, refused: 0 };
    chosenGroups = [];
    let files = 0, size = 0;
    for (const at of within ? order : GROUPS.keys()) {
      const group = GROUPS[at];
      if (tier !== "" && group.t !== Number(tier)) continue;
      if (batch !== "" && group.k !== Number(batch)) continue;
      if (group.q < least - 1e-9) continue;
      if (prefix && !group.m.every((row) => row[KEY].startsWith(prefix))) continue;
      if (closed(group)) left.closed += 1;
      else if (decisionOf(group) && decisionOf(group) !== "skip") left.decided += 1;
      else if (word === "accept" && refused(group)) left.refused += 1;
      else if (word === "accept" && mustAsk(group)) left.asks += 1;
      else {
        chosenGroups.push(group);
        files += group.p ? group.p.files : group.n - 1;
        size += group.b;
      }
    }
    const reasons = [[left.decided, words("ui.left.decided")], [left.asks, words("ui.left.asks")], [left.refused, words("ui.left.refused")], [left.closed, words("ui.left.closed")]].filter(([n]) => n);
    const largest = [...chosenGroups].sort((one, two) => two.b - one.b).slice(0, 10);
    if (word !== "accept") [files, size] = [0, 0]; // nothing is moved then
    put(sum, h("p", {}, h("b", {}, counted(chosenGroups.length, "group")), ": " + (PLAN ? words(files === 1 ? "ui.leaves.one" : "ui.leaves", { files: counted(files, "file") }) : counted(files, "file")) + ", " + bytes(size) + (money(size) ? ", " + money(size) : "")),
      ...(word === "accept" ? doing(chosenGroups) : [[words("decide." + word), chosenGroups.length]]).map(([what, n]) => h("p", {}, shown(what) + ": " + counted(n, "group"))),
      reasons.length ? h("p", { class: "soft" }, words("ui.left", { reasons: reasons.map(([n, why]) => number(n) + " " + why).join(", ") })) : null,
      largest.length ? h("details", { open: true }, h("summary", {}, largest.length < chosenGroups.length ? words("ui.ten") : words("ui.these")),
        h("ol", { class: "largest small" }, ...largest.map((group) => h("li", {}, bdi(group.m[keeperOf(group)][KEY], "mono"), " " + words("ui.largest", { files: counted(group.p ? group.p.files : group.n - 1, "file"), bytes: bytes(group.b) }))))) : null);
    confirm.disabled = !chosenGroups.length;
    confirm.textContent = word !== "accept" ? words("bulk.press", { decision: words("decide." + word), groups: counted(chosenGroups.length, "group") }) : words(PLAN ? "ui.bulk.merge" : "ui.bulk.confirm", { groups: counted(chosenGroups.length, "group"), files: counted(files, "file") });
  };
  put(dialog, h("h2", { id: "bulk-title" }, words("ui.bulk.title")),
    h("div", { class: "row", role: "radiogroup", "aria-label": words("ui.bulk.kind") }, radio("0", words("ui.only", { tier: TIER_WORDS[0] }), kind === undefined), radio("1", words("ui.only", { tier: TIER_WORDS[1] })), radio("", words("ui.both"), kind !== undefined)),
    h("div", { class: "row" }, h("label", {}, words("bulk.kinds") + " ", h("select", { id: "bulk-kind" }, h("option", { value: "" }, words("filter.kind.any")), ...DATA.batches.map((name, at) => h("option", { value: at, selected: at === kind }, words("batch." + name))))),
      h("label", {}, words("bulk.what") + " ", h("select", { id: "bulk-word" }, h("option", { value: "accept" }, words("bulk.accept")), ...["distinct", "linked"].map((name) => h("option", { value: name }, words("decide." + name)))))),
    h("div", { class: "row" }, h("label", {}, words("ui.below") + " ", h("input", { type: "text", id: "bulk-prefix", placeholder: words("ui.below.hint"), autocomplete: "off", spellcheck: "false" })),
      h("label", {}, words("ui.score") + " ", h("input", { type: "number", id: "bulk-score", min: 0.5, max: 1, step: 0.01, value: 0.7 }))),
    h("div", { class: "row" }, h("label", {}, h("input", { type: "checkbox", id: "bulk-filtered", checked: kind === undefined }), words("ui.filtered", { groups: counted(order.length, "group") }))),
    sum,
    h("div", { class: "end" }, h("button", { type: "button", on: { click: () => dialog.close() } }, words("ui.cancel")), confirm));
  dialog.oninput = read;
  confirm.addEventListener("click", () => {
    const word = byId("bulk-word").value;
    dialog.close();
    change(chosenGroups.map((group) => [group, { d: word, apart: undefined }]), words("bulk.said", { decision: words(word === "accept" ? "bulk.accept" : "decide." + word), groups: counted(chosenGroups.length, "group") }));
  });
  read();
  dialog.showModal();
}

// What would be done, by action.
function doing(groups) {
  const found = new Map();
  for (const group of groups) {
    const what = words("ui.does." + (group.p ? group.p.action : "nothing"));
    found.set(what, (found.get(what) || 0) + 1);
  }
  return [...found];
}
