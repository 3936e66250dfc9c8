// Which file stays, by rules that are tried here: what would change is shown as they are changed.
let tried = DEFAULT_RULE.map(([name, values]) => (values ? [name, [...values]] : [name]));
const RULE_PLACE = "dam-dedup-rules-" + DATA.collection;
const criterionWords = ([name, values]) => words("criterion." + name) + (values ? ": " + values.map(shown).join(", ") : "");

function recallRule() {
  try {
    const kept = JSON.parse(localStorage.getItem(RULE_PLACE) || "null");
    if (Array.isArray(kept) && kept.length && kept.every((one) => Array.isArray(one) && one[0] in RANKS && (!LISTS.includes(one[0]) || (Array.isArray(one[1]) && one[1].length && one[1].every((text) => typeof text === "string"))))) tried = kept;
  } catch { /* then the shipped ones are tried */ }
}

function setRule(rule) {
  tried = rule;
  try {
    localStorage.setItem(RULE_PLACE, JSON.stringify(tried));
  } catch { /* it is kept while the page is open */ }
  drawRules();
}

// The groups in which another file would stay than now: [group, who].
const changes = () => GROUPS.map((group) => [group, keeperUnder(group, tried)]).filter(([group, at]) => at !== keeperOf(group));

function drawRules() {
  const place = byId("view-rules"), focused = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
  const found = changes(), open = found.filter(([group]) => !closed(group) && !decisionOf(group));
  const move = (nth, by) => () => { const rule = [...tried]; [rule[nth], rule[nth + by]] = [rule[nth + by], rule[nth]]; setRule(rule); };
  const small = (id, label, act, said, disabled) => h("button", { type: "button", id, class: "small", "aria-label": said, disabled, on: { click: act } }, label);
  put(place, h("h1", {}, words("rules.title")), h("p", { class: "soft lead" }, words("rules.lead")),
    h("div", { class: "rules-columns" },
      h("section", { class: "card", "aria-labelledby": "rules-list" }, h("h2", { id: "rules-list" }, words("rules.list")),
        h("ol", { class: "criteria" }, ...tried.map((one, nth) => h("li", {}, h("span", {}, criterionWords(one)),
          small("rule-up-" + nth, "↑", move(nth, -1), words("rules.up", { rule: criterionWords(one) }), nth === 0), small("rule-down-" + nth, "↓", move(nth, 1), words("rules.down", { rule: criterionWords(one) }), nth === tried.length - 1),
          small("rule-drop-" + nth, "×", () => setRule(tried.filter((_, at) => at !== nth)), words("rules.drop", { rule: criterionWords(one) }), tried.length === 1)))),
        h("form", { class: "rule-add", on: { submit: addCriterion } }, h("label", {}, words("rules.add") + " ", h("select", { id: "rule-name" }, ...Object.keys(RANKS).map((name) => h("option", { value: name }, words("criterion." + name))))),
          h("label", {}, words("rules.values") + " ", h("input", { type: "text", id: "rule-values", placeholder: "masters/, archive/", autocomplete: "off", spellcheck: "false" })), h("button", { type: "submit", id: "rule-add" }, words("rules.first"))),
        h("p", { class: "row-buttons" }, h("button", { type: "button", id: "rule-save", on: { click: () => download("policy-keepers.yaml", "text/yaml;charset=utf-8", policyYaml(tried)) } }, words("rules.save")), " ",
          h("button", { type: "button", id: "rule-reset", on: { click: () => setRule(DEFAULT_RULE.map((one) => [...one])) } }, words("rules.reset")))),
      h("section", { class: "card", "aria-labelledby": "rules-change" }, h("h2", { id: "rules-change" }, words("rules.change")),
        h("p", { id: "rules-said", role: "status" }, h("b", {}, words("rules.changes", { groups: counted(found.length, "group"), all: number(GROUPS.length) }))),
        open.length ? h("button", { type: "button", id: "rule-use", class: "primary", on: { click: useRule } }, words("rules.use", { groups: counted(open.length, "group") })) : null,
        h("ul", { class: "rule-cases" }, ...found.slice(0, 12).map(([group, at]) => ruleCase(group, at)))),
      suggested()));
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

function ruleCase(group, at) {
  const one = (member, label) => { const row = group.m[member], source = picture(row[PICTURE]); return h("span", { class: "rule-pic" }, source ? h("img", { src: source, alt: "" }) : null, h("span", { class: "small" }, label + " ", bdi(row[KEY]), " " + row[WIDE] + " × " + row[HIGH] + ", " + bytes(row[SIZE]))); };
  return h("li", {}, h("a", { href: "#" + group.i }, one(keeperOf(group), words("rules.now")), one(at, words("rules.then"))));
}

function suggested() {
  const found = suggestions();
  return h("section", { class: "card", "aria-labelledby": "rules-learned" }, h("h2", { id: "rules-learned" }, words("rules.learned")),
    found.length ? h("ul", { class: "learned" }, ...found.map(({ criterion, right, against }, nth) => h("li", {}, h("b", {}, criterionWords(criterion)), " " + words("rules.right", { right: number(right), all: number(right + against.length) }),
      h("button", { type: "button", id: "learned-" + nth, class: "small", on: { click: () => setRule([criterion, ...tried.filter((one) => JSON.stringify(one) !== JSON.stringify(criterion))]) } }, words("rules.first")),
      against.length ? h("p", { class: "small" }, words("rules.against") + " ", ...against.slice(0, 8).flatMap((group, at) => [at ? ", " : "", h("a", { href: "#" + group.i }, bdi(baseName(group.m[keeperOf(group)][KEY])))])) : null)))
      : h("p", { class: "soft" }, words("rules.few")));
}

function addCriterion(event) {
  event.preventDefault();
  const name = byId("rule-name").value, values = byId("rule-values").value.split(",").map((one) => one.trim()).filter(Boolean);
  if (LISTS.includes(name) && !values.length) {
    byId("rule-values").focus();
    return toast(words("rules.empty"));
  }
  const made = LISTS.includes(name) ? [name, values] : [name];
  setRule([made, ...tried.filter((one) => one[0] !== name || LISTS.includes(name))]);
}

// Picks the files that the rules say, in the groups nobody has decided on.
function useRule() {
  const found = changes().filter(([group]) => !closed(group) && !decisionOf(group));
  change(found.map(([group, at]) => [group, { k: at, d: undefined, apart: apartOf(group).filter((one) => one !== at) }]), words("rules.used", { groups: counted(found.length, "group") }));
  drawRules();
}
