// What the reviewer decided: kept in the browser under the scan's name, with an undo of every step.
const PLACE = "dam-dedup-review-" + DATA.scan + (PLAN ? "-" + PLAN.id : "") + (GATE ? "-" + GATE.reviewer : "");
const WORDS = Object.fromEntries(["accept", "distinct", "linked", "skip"].map((name) => [name, words("decided." + name)]));
const GLYPHS = { accept: "✓", distinct: "≠", linked: "⚭", skip: "↷" };
// group id -> { d: decision, k: keeper, apart: [members], q: questions read, sent: the gate has it }
const records = new Map();
const steps = []; // [[group id, record before], ...] for each undo
let unsaved = 0; // decisions that are neither exported nor sent
let keeps = true; // whether the browser keeps anything for this page

function recordOf(group) {
  return records.get(group.i) || {};
}

const keeperOf = (group) => recordOf(group).k || 0;
const apartOf = (group) => recordOf(group).apart || [];
const othersOf = (group) => group.m.map((_, at) => at).filter((at) => at !== keeperOf(group));

// What was decided at the gate before, or has just been sent, holds.
const held = new Map(GATE ? Object.entries(GATE.decided) : []);

function decisionOf(group) {
  const before = held.get(group.i);
  if (before) return before[0] === "approve" ? "accept" : recordOf(group).d === "linked" ? "linked" : "distinct";
  return recordOf(group).d || "";
}

function closed(group) {
  const before = held.get(group.i);
  if (before) return words(before[0] === "approve" ? "held.approved" : "held.rejected", { by: shown(before[1]), at: before[2] }) + " " + words(before[3] ? "held.open" : before[0] === "approve" ? "held.begun" : "held.kept");
  if (GATE && group.p && !group.p.mine) return words("ui.others", { who: group.p.approvers.map(shown).join(", ") });
  return "";
}

// Changes some groups as one step: `changes` is [[group, what changes], ...].
function change(changes, said) {
  const open = changes.filter(([group]) => !closed(group));
  if (!open.length) {
    toast(changes.length === 1 ? closed(changes[0][0]) : words("ui.nochange"));
    return false;
  }
  steps.push(open.map(([group]) => [group.i, records.get(group.i)]));
  if (steps.length > 500) steps.shift();
  for (const [group, more] of open) records.set(group.i, { ...recordOf(group), sent: undefined, ...more });
  unsaved += open.length;
  keep();
  if (GATE) queue(open.map(([group]) => group.i));
  toast(said, true);
  changed();
  return true;
}

function undo() {
  const last = steps.pop();
  if (!last) return toast(words("ui.noundo"));
  const late = last.filter(([id]) => held.has(id) || (GATE && (records.get(id) || {}).sent));
  if (late.length) takeBack(late.map(([id]) => id), Object.fromEntries(late));
  const back = last.filter((step) => !late.includes(step));
  for (const [id, before] of back) {
    if (before) records.set(id, before);
    else records.delete(id);
  }
  if (GATE) withdraw(back.map(([id]) => id));
  keep();
  if (back.length) {
    unsaved += 1;
    toast(back.length === 1 ? words("ui.undone.one") : words("ui.undone", { groups: counted(back.length, "group") }));
    if (seen !== "batches" && seen !== "rules") go(byGroup.get(back[0][0]), true);
  }
  changed();
}

// Takes back what the gate has recorded; a record before it is put in its place.
async function takeBack(ids, before = {}) {
  const problems = await withdrawAtGate(ids);
  const gone = ids.filter((id) => !(id in problems));
  for (const id of gone) {
    held.delete(id);
    if (before[id]) records.set(id, { ...before[id], sent: undefined });
    else if (records.has(id)) records.set(id, { ...records.get(id), d: undefined, sent: undefined });
  }
  keep();
  if (gone.length === 1 && seen !== "batches" && seen !== "rules") go(byGroup.get(gone[0]), true);
  if (gone.length) toast(words("held.back", { groups: counted(gone.length, "group") }));
  else toast(words("held.stays", { why: shown(Object.values(problems)[0]) }));
  changed();
}

// Decides anew on a group whose decision is recorded: takes that back first.
function reopen(group) {
  const before = held.get(group.i);
  if (!before || (GATE && group.p && !group.p.mine)) return toast(before ? closed(group) : words("held.none"));
  if (!before[3]) return toast(closed(group));
  return takeBack([group.i]);
}

function keep() {
  try {
    localStorage.setItem(PLACE, JSON.stringify([...records]));
  } catch {
    keeps = false; // for a file, or when full: then only the export counts
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) || "[]");
    for (const [id, record] of kept) {
      const group = GROUPS[byGroup.get(id)];
      if (!group || typeof record !== "object" || record === null) continue;
      const clean = {};
      if (record.d in WORDS) clean.d = record.d;
      if (Number.isInteger(record.k) && record.k > 0 && record.k < group.m.length) clean.k = record.k;
      if (Array.isArray(record.apart)) clean.apart = record.apart.filter((at) => Number.isInteger(at) && at >= 0 && at < group.m.length);
      if (record.q === true) clean.q = true;
      if (record.w && typeof record.w === "object") clean.w = Object.fromEntries(Object.entries(record.w).filter(([name, value]) => typeof value === "string" && group.p && group.p.fields.some((field) => field[0] === name)));
      if (clean.d === "accept" && refused(group)) delete clean.d;
      if (record.sent === true) clean.sent = true;
      records.set(id, clean);
    }
  } catch {
    keeps = false;
  }
}

function tally() {
  const found = { decided: 0, accept: 0, distinct: 0, linked: 0, skip: 0, bytes: 0 };
  for (const group of GROUPS) {
    const decision = decisionOf(group);
    if (!decision) continue;
    found[decision] += 1;
    if (decision !== "skip") found.decided += 1;
    if (decision === "accept") found.bytes += group.b;
  }
  return found;
}

// ---- decisions of one group --------------------------------------------------------------------
const mustAsk = (group) => Boolean(group.p && group.p.acts && group.p.questions.length && !group.p.refused);

// Another file or value is picked than the plan has: it is planned anew, and approved then.
const picksAnew = (group) => Boolean(group.p && group.p.acts && (group.m[keeperOf(group)][KEY] !== group.p.keeper || Object.keys(otherValues(group)).length));

// Nothing may be done to the group: there is nothing to accept.
const refused = (group) => Boolean(group.p && group.p.refused);

function decide(group, decision) {
  if (decision === "accept" && refused(group)) return toast(shown(group.p.line) + ".");
  if (decision === "accept" && mustAsk(group) && !answered(group)) {
    nextQuestion(Boolean(group.p.rest));
    return toast(words("choice.first"));
  }
  const name = baseName(group.m[keeperOf(group)][KEY]);
  const said = decision === "accept" && apartOf(group).length ? words("decide.rest") + " " : words("ui.said." + (decision === "accept" && picksAnew(group) ? "anew" : decision)) + " ";
  if (change([[group, { d: decision }]], said + shown(name))) forward();
}

function setKeeper(group, at) {
  if (at >= group.m.length || at === keeperOf(group)) return;
  change([[group, { k: at, d: undefined, apart: apartOf(group).filter((one) => one !== at) }]],
    words(group.p && group.p.acts ? "ui.keeps.anew" : "ui.keeps", { name: shown(baseName(group.m[at][KEY])) }));
}

function toggleApart(group, at) {
  const apart = apartOf(group);
  const now = apart.includes(at) ? apart.filter((one) => one !== at) : [...apart, at];
  change([[group, { apart: now, d: undefined }]], words(now.includes(at) ? "ui.apart" : "ui.apart.not", { name: shown(baseName(group.m[at][KEY])) }));
}

// ---- what is said at the foot of the page ------------------------------------------------------
let fading = 0;

function toast(text, undoable) {
  clearTimeout(fading);
  put(byId("toast"), text, ...(undoable ? [h("button", { type: "button", on: { click: undo } }, words("decide.undo"))] : []));
  fading = setTimeout(() => put(byId("toast")), 6000);
}
