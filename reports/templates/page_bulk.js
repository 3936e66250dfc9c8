// Many groups at once, with a summary before: what is accepted, and what is left out and why.
function openBulk() {
  const dialog = byId("bulk");
  const radio = (value, words, checked) => h("label", {}, h("input", { type: "radio", name: "bulk-tier", value, checked }), words);
  const sum = h("div", { class: "sum", id: "bulk-sum", role: "status" });
  const confirm = h("button", { type: "button", class: "primary", id: "bulk-do" }, "Accept");
  let chosenGroups = [];
  const read = () => {
    const tier = dialog.querySelector("[name=bulk-tier]:checked").value, prefix = byId("bulk-prefix").value;
    const least = Number(byId("bulk-score").value) || 0, within = byId("bulk-filtered").checked;
    const left = { decided: 0, closed: 0, asks: 0, refused: 0 };
    chosenGroups = [];
    let files = 0, size = 0;
    for (const at of within ? order : GROUPS.keys()) {
      const group = GROUPS[at];
      if (tier !== "" && group.t !== Number(tier)) continue;
      if (group.q < least - 1e-9) continue;
      if (prefix && !group.m.every((row) => row[KEY].startsWith(prefix))) continue;
      if (closed(group)) left.closed += 1;
      else if (decisionOf(group) && decisionOf(group) !== "skip") left.decided += 1;
      else if (group.p && group.p.refused) left.refused += 1;
      else if (mustAsk(group)) left.asks += 1;
      else {
        chosenGroups.push(group);
        files += group.n - 1;
        size += group.b;
      }
    }
    const words = [[left.decided, "decided before"], [left.asks, "with a question for a person"], [left.refused, "that may not be merged"], [left.closed, "not open to you"]].filter(([n]) => n);
    put(sum, h("p", {}, h("b", {}, counted(chosenGroups.length, "group")), " with " + counted(files, "duplicate") + ", " + bytes(size) + (money(size) ? ", " + money(size) : "")),
      ...doing(chosenGroups).map(([what, n]) => h("p", {}, shown(what) + ": " + counted(n, "group"))),
      words.length ? h("p", { class: "soft" }, "Left out: " + words.map(([n, why]) => number(n) + " " + why).join(", ") + ".") : null);
    confirm.disabled = !chosenGroups.length;
    confirm.textContent = "Accept " + counted(chosenGroups.length, "group");
  };
  put(dialog, h("h2", { id: "bulk-title" }, "Accept many at once"),
    h("div", { class: "row", role: "radiogroup", "aria-label": "Tier" }, radio("0", "exact only", true), radio("1", "near only"), radio("", "both")),
    h("div", { class: "row" }, h("label", {}, "Every file below ", h("input", { type: "text", id: "bulk-prefix", placeholder: "prefix, e.g. web/", autocomplete: "off", spellcheck: "false" })),
      h("label", {}, "Score from ", h("input", { type: "number", id: "bulk-score", min: 0.5, max: 1, step: 0.01, value: 0.7 }))),
    h("div", { class: "row" }, h("label", {}, h("input", { type: "checkbox", id: "bulk-filtered", checked: true }), "only the " + counted(order.length, "group") + " in the list as it is filtered now")),
    sum,
    h("div", { class: "end" }, h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"), confirm));
  dialog.oninput = read;
  confirm.addEventListener("click", () => {
    dialog.close();
    change(chosenGroups.map((group) => [group, { d: "accept", apart: undefined }]), "Accepted " + counted(chosenGroups.length, "group") + ".");
  });
  read();
  dialog.showModal();
}

// What would be done, by action.
function doing(groups) {
  const words = { report: "only reported", tag: "duplicates are tagged", link: "sidecars name the keeper", metadata: "the keeper takes over metadata",
    quarantine: "duplicates move into quarantine", replace: "duplicates are replaced by link records", delete: "duplicates are deleted" };
  const found = new Map();
  for (const group of groups) {
    const what = group.p ? words[group.p.action] || group.p.action : "nothing is touched; the word is kept for later scans";
    found.set(what, (found.get(what) || 0) + 1);
  }
  return [...found];
}
