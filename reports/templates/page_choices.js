// Questions answered where they are asked: which value of a field wins. What the file that stays has
// needs no new plan; another value does, for no plan showed that merge.
const CUT = 300; // longer values are cut where they are shown, and so cannot be chosen here

const conflictsOf = (group) => (group.p && group.p.acts && !group.p.refused ? group.p.fields.filter(([, , , , , conflict]) => conflict) : []);
const valuesOf = (group) => recordOf(group).w || {};

// The conflict of a plan that a row of the table of members is about: tag.x there is tags.x here.
const conflictOf = (group, row) => conflictsOf(group).find(([name]) => name === row.replace(/^tag\./, "tags."));

// Those that differ from what the file that stays has.
function otherValues(group) {
  const had = new Map(conflictsOf(group).map((field) => [field[0], (field[1] || "").trim()]));
  return Object.fromEntries(Object.entries(valuesOf(group)).filter(([name, value]) => had.has(name) && had.get(name) !== value.trim()));
}

// Whether everything that is asked has an answer: each conflict a value, and no question is left.
function answered(group) {
  const open = conflictsOf(group).filter(([name]) => !(name in valuesOf(group)));
  return Boolean(recordOf(group).q) || (!open.length && !group.p.rest && Object.keys(valuesOf(group)).length > 0);
}

function choose(group, field, value) {
  const now = { ...valuesOf(group) };
  if (now[field] === value) delete now[field];
  else now[field] = value;
  change([[group, { w: now, d: undefined }]], field in now ? words("choice.said", { field: shown(field), value: shown(value) }) : words("choice.none", { field: shown(field) }));
}

function choice(group, field, value, nth) {
  if (value === null || value === "–" || !value.trim() || value.length > CUT) return value === null ? h("span", { class: "soft" }, words("choice.nothing")) : bdi(value);
  const id = "choice-" + conflictsOf(group).findIndex(([name]) => name === field) + "-" + nth, on = valuesOf(group)[field] === value;
  return h("button", { type: "button", id, class: "choice", "aria-pressed": String(on), disabled: Boolean(closed(group)), title: words("choice.title", { field: shown(field) }), on: { click: () => choose(group, field, value) } }, on ? "✓ " : null, bdi(value));
}

// What the file that stays gets, once a value is chosen.
function result(group, field) {
  const value = valuesOf(group)[field];
  return value === undefined ? null : h("span", { class: "gets" }, words("choice.gets") + " ", h("b", {}, bdi(value)));
}

// To the first question that has no answer yet; `whole`: to the box that answers all of them.
function nextQuestion(whole) {
  const group = GROUPS[current], open = conflictsOf(group).find(([name]) => !(name in valuesOf(group)));
  const found = open && whole !== true ? document.querySelector('[id^="choice-' + conflictsOf(group).indexOf(open) + '-"]') : byId("read");
  if (!found) return toast(words("choice.all"));
  found.scrollIntoView({ block: "center" });
  found.focus();
}
