// Decisions leave the page in two forms: JSON for `dam-dedup approve PLAN --decisions`, CSV for
// `dam-dedup verdict`; or, where a gate serves the page, by a request to it.
const FORM = "dam-dedup decisions 1";

// What is said of the pairs of one group: [member, member, verdict].
function verdictsOf(group) {
  const { d: decision } = recordOf(group);
  const keeper = keeperOf(group), apart = apartOf(group);
  if (!decision || decision === "skip") return [];
  // Said of a whole group it holds for every pair: else all but the keeper came back as a group.
  if (decision === "distinct" || decision === "linked") {
    const members = [keeper, ...othersOf(group)];
    return members.flatMap((one, n) => members.slice(n + 1).map((two) => (
      [one, two, apart.includes(one) || apart.includes(two) ? "distinct" : decision]
    )));
  }
  return othersOf(group).flatMap((at) => {
    if (apart.includes(at)) return [[keeper, at, "distinct"]];
    // That two are exact copies needs nobody's word.
    const pair = pairOf(group, keeper, at);
    return (pair ? pair.tier : group.m[at][TIER]) === 0 ? [] : [[keeper, at, "duplicate"]];
  });
}

// What is said about the group as the plan has it; null where the plan does nothing with it.
function planWord(group) {
  const { d: decision, q: read } = recordOf(group);
  if (!PLAN || !group.p || !group.p.acts || group.p.refused || !decision || decision === "skip") return null;
  const word = { group: group.i, decision: "reject" };
  if (decision === "accept" && !apartOf(group).length) {
    word.decision = "approve";
    if (read) word.accept_questions = true;
    const keeper = keeperOf(group);
    if (answered(group) && mustAsk(group)) word.accept_questions = true;
    if (group.m[keeper][KEY] !== group.p.keeper) word.keeper = group.m[keeper][KEY];
    if (Object.keys(otherValues(group)).length) word.values = otherValues(group);
  }
  return word;
}

function decisionsOf(groups) {
  return {
    form: FORM,
    scan: DATA.scan,
    plan_hash: PLAN ? PLAN.hash : "",
    groups: groups.map(planWord).filter(Boolean),
    verdicts: groups.flatMap((group) => verdictsOf(group).map(([one, two, verdict]) => ({
      left: group.m[one][ASSET], right: group.m[two][ASSET], verdict,
    }))),
  };
}

// A cell that begins like a formula would be run by spreadsheet programs: the rule of tasks/csv_cells.py.
const FORMULA = /^(?:[\t\r\n']|[\s\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])/;

function cell(text) {
  const safe = shown(text).replace(FORMULA, "'$&");
  return /[",\r\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function verdictsCsv(groups) {
  const rows = groups.flatMap((group) => verdictsOf(group).map(([one, two, verdict]) => [
    group.m[one][ASSET], group.m[two][ASSET], verdict, group.i, group.m[one][KEY], group.m[two][KEY],
  ]));
  return [["left", "right", "verdict", "group", "left_key", "right_key"], ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

function download(name, type, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function save(name, type, text) {
  download(name, type, text);
  unsaved = 0;
}

function openExport() {
  const found = tally(), all = decisionsOf(GROUPS), dialog = byId("export");
  const others = all.groups.filter((word) => word.keeper || word.values);
  const line = (text) => h("pre", {}, text);
  put(dialog, 
    h("h2", { id: "export-title" }, words("ui.export")),
    h("p", {}, words("ui.export.sum", { groups: counted(found.decided, "group"), all: number(GROUPS.length), accepted: number(found.accept), bytes: bytes(found.bytes), distinct: number(found.distinct), linked: number(found.linked), later: number(found.skip) })),
    PLAN ? h("div", {}, h("p", {}, h("b", {}, "decisions.json"), " " + words("ui.export.json") + " ", h("span", { class: "mono" }, PLAN.id), " " + words("ui.export.json.too")),
      line("dam-dedup approve " + PLAN.id + " --decisions decisions.json --by " + words("ui.export.name")),
      others.length ? h("p", {}, words("ui.export.others", { groups: counted(others.length, "group") })) : null) : h("p", {}, words("ui.export.noplan")),
    h("p", {}, h("b", {}, "verdicts.csv"), " " + words("ui.export.csv")),
    line("dam-dedup verdict verdicts.csv --by " + words("ui.export.name")),
    GATE ? h("p", {}, h("b", {}, words("ui.export.gate") + " "), words("ui.export.copies")) : null,
    keeps ? null : h("p", { class: "bad" }, words("ui.export.keeps")),
    h("div", { class: "end" },
      h("button", { type: "button", id: "save-csv", on: { click: () => save("verdicts.csv", "text/csv;charset=utf-8", verdictsCsv(GROUPS)) } }, words("ui.export.save.csv")),
      h("button", { type: "button", id: "save-json", class: PLAN ? "primary" : "", on: { click: () => save("decisions.json", "application/json", JSON.stringify(all, null, 1)) } }, words("ui.export.save.json")),
      h("button", { type: "button", on: { click: () => dialog.close() } }, words("ui.close"))),
  );
  dialog.showModal();
}

// ---- to the gate: a few seconds after a decision, so that it can be undone until then ----------
const WAIT = 5000, AT_ONCE = 200;
const waiting = new Map(); // group id -> when it is sent
const failures = new Map(); // group id -> why it could not be recorded
let sending = false, timer = 0, replanned = "";

function queue(ids) {
  for (const id of ids) {
    failures.delete(id);
    const { d: decision } = records.get(id) || {};
    if (decision && decision !== "skip") waiting.set(id, Date.now() + WAIT);
    else waiting.delete(id);
  }
  timer ||= setTimeout(flush, WAIT + 50);
}

// What was decided when the page was last open and did not reach the gate: the page was closed too
// soon, or the gate was busy. It is sent now, unless it is undone in time.
function resume() {
  const left = [...records].filter(([id, record]) => record.d && !record.sent && !held.has(id));
  if (GATE && left.length) queue(left.map(([id]) => id));
}

function withdraw(ids) {
  for (const id of ids) waiting.delete(id);
}

// Sends what has waited long enough; at the end of the page, everything.
async function flush(leaving) {
  timer = 0;
  if (!GATE || (sending && leaving !== true)) return;
  const due = [...waiting].filter(([, when]) => leaving === true || when <= Date.now()).slice(0, AT_ONCE).map(([id]) => id);
  if (due.length) await send(due, leaving === true);
  if (waiting.size) timer ||= setTimeout(flush, 500);
}

async function send(due, leaving) {
  sending = true;
  for (const id of due) waiting.delete(id);
  // A new plan holds all that was picked, not only what was picked last.
  const picked = (id) => { const word = planWord(GROUPS[byGroup.get(id)]); return Boolean(word && (word.keeper || word.values)); };
  if (due.some(picked)) due = [...new Set([...due, ...[...records.keys()].filter((id) => !held.has(id) && !waiting.has(id) && picked(id))])];
  try {
    const answer = await fetch(GATE.post, {
      method: "POST", credentials: "same-origin", keepalive: leaving,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(decisionsOf(due.map((id) => GROUPS[byGroup.get(id)]))),
    });
    const said = await answer.json().catch(() => ({})); // a proxy's refusal is no JSON
    if (!answer.ok) throw new Error(said.error || words(answer.status === 504 ? "ui.answered.late" : "ui.answered", { status: answer.status }));
    for (const [id, row] of Object.entries(said.decided)) held.set(id, row);
    for (const [id, why] of Object.entries(said.problems)) failures.set(id, why);
    if (said.plan) replanned = said.plan;
    for (const id of due) if (!failures.has(id) && records.has(id)) records.get(id).sent = true;
    keep();
    unsaved = Math.max(0, unsaved - due.length);
  } catch (error) {
    for (const id of due) failures.set(id, String(error.message || error));
    toast(words("ui.unrecorded.retry", { why: shown(error.message || error) }));
  }
  sending = false;
  changed();
}

// Group id to why, of those whose decision could not be taken back.
async function withdrawAtGate(ids) {
  const problems = {};
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const some = ids.slice(at, at + AT_ONCE);
    try {
      const answer = await fetch(GATE.post, {
        method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ form: FORM, scan: DATA.scan, plan_hash: PLAN.hash, groups: some.map((group) => ({ group, decision: "withdraw" })), verdicts: [] }),
      });
      const said = await answer.json().catch(() => ({})); // a proxy's refusal is no JSON
      if (!answer.ok) throw new Error(said.error || words(answer.status === 504 ? "ui.answered.late" : "ui.answered", { status: answer.status }));
      Object.assign(problems, said.problems);
      for (const [id, row] of Object.entries(said.decided)) held.set(id, row);
    } catch (error) {
      for (const id of some) problems[id] = String(error.message || error);
    }
  }
  return problems;
}

function gateWords(group) {
  if (!GATE) return "";
  if (failures.has(group.i)) return words("ui.unrecorded", { why: shown(failures.get(group.i)) });
  if (waiting.has(group.i)) return words("ui.soon");
  if (replanned && (recordOf(group).k || Object.keys(otherValues(group)).length)) return words("choice.replanned");
  return "";
}
