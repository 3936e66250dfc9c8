// The keeper criteria of a policy, as far as this file knows what they compare (tasks/merging/rules/criteria.py).
const LOSSLESS = ["tiff", "png", "bmp", "psd"];
const LISTS = ["prefix", "format", "tags"]; // criteria that take values: the earlier is the better
const DEFAULT_RULE = [["licence"], ["original"], ["resolution"], ["format", ["tiff", "psd", "png", "bmp"]], ["quality"], ["metadata"], ["size"], ["oldest"]];

// The value of a field of a member: "tag.owner", "metadata.owner" ...
function fieldOf(group, at, name) {
  const value = (group.f || {})[name];
  return (Array.isArray(value) ? value[at] : value) || "";
}

// What the pixels say: an original that some pair calls so, and none calls the copy.
function isOriginal(group, at) {
  const said = group.e.filter((edge) => edge[5] && (edge[0] === at || edge[1] === at)).map((edge) => (edge[5] === 1 ? edge[0] : edge[1]) === at);
  return said.length > 0 && said.every(Boolean);
}

const placeIn = (values, hit) => { const at = values.findIndex(hit); return at < 0 ? values.length : at; };

// Smaller is better.
const RANKS = {
  licence: (group, at) => (fieldOf(group, at, "tag.licence").trim() ? 0 : 1),
  original: (group, at) => (isOriginal(group, at) ? 0 : 1),
  resolution: (group, at) => -group.m[at][WIDE] * group.m[at][HIGH],
  quality: (group, at) => -(group.m[at][QUALITY] ?? (LOSSLESS.includes(group.m[at][FORMAT]) ? 101 : -1)),
  metadata: (group, at) => -Object.keys(group.f || {}).filter((name) => !name.startsWith("exif.") && fieldOf(group, at, name).trim()).length,
  size: (group, at) => -group.m[at][SIZE],
  oldest: (group, at) => group.m[at][WHEN] ?? Infinity,
  newest: (group, at) => -(group.m[at][WHEN] ?? -Infinity),
  prefix: (group, at, values) => placeIn(values, (one) => group.m[at][KEY].startsWith(one)),
  format: (group, at, values) => placeIn(values, (one) => group.m[at][FORMAT] === one),
  tags: (group, at, values) => placeIn(values, (one) => tagged(group, at, one)),
};

function tagged(group, at, text) {
  const [name, ...rest] = text.split("="), given = fieldOf(group, at, "tag." + name).trim();
  return rest.length ? given === rest.join("=").trim() && given !== "" : given !== "" && !["no", "false"].includes(given.toLowerCase());
}

// Who would stay under these criteria: the first that differs decides, then the key.
function keeperUnder(group, rule) {
  if (fixed(group)) return 0;
  let left = group.m.map((_, at) => at);
  for (const [name, values] of rule) {
    const ranks = left.map((at) => RANKS[name](group, at, values)), best = ranks.reduce((least, one) => (one < least ? one : least));
    left = left.filter((_, nth) => ranks[nth] === best);
    if (left.length === 1) return left[0];
  }
  return left.reduce((first, at) => (group.m[at][KEY] < group.m[first][KEY] ? at : first));
}

// What may not be touched stays, whatever the criteria say.
const fixed = (group) => Boolean(group.p && group.p.fixed);

// The one criterion says of a decision: true: right, false: wrong, null: nothing.
function agrees(group, keeper, [name, values]) {
  const ranks = group.m.map((_, at) => RANKS[name](group, at, values));
  const best = ranks.reduce((least, one) => (one < least ? one : least));
  if (ranks.every((one) => one === best)) return null;
  return ranks[keeper] === best;
}

// Criteria that the decisions so far speak for, with the cases that contradict them.
const LEAST_CASES = 3, LEAST_SHARE = 0.75;
function suggestions() {
  const cases = GROUPS.filter((group) => decisionOf(group) === "accept" && !apartOf(group).length && !fixed(group));
  const kept = cases.map((group) => group.m[keeperOf(group)]);
  const tops = [...new Set(kept.map((row) => row[KEY].split("/").length > 1 ? row[KEY].split("/")[0] + "/" : "").filter(Boolean))].slice(0, 30);
  const formats = [...new Set(kept.map((row) => row[FORMAT]))];
  const tried = [...Object.keys(RANKS).filter((name) => !LISTS.includes(name)).map((name) => [name]), ...tops.map((one) => ["prefix", [one]]), ...formats.map((one) => ["format", [one]])];
  return tried.map((criterion) => {
    const said = cases.map((group) => [group, agrees(group, keeperOf(group), criterion)]);
    return { criterion, right: said.filter(([, yes]) => yes).length, against: said.filter(([, yes]) => yes === false).map(([group]) => group) };
  }).filter(({ right, against }) => right >= LEAST_CASES && right / (right + against.length) >= LEAST_SHARE)
    .sort((one, two) => (two.right - 3 * two.against.length) - (one.right - 3 * one.against.length)).slice(0, 6);
}

// ---- as a policy -----------------------------------------------------------------------------------
// JSON texts are YAML texts too, whatever is in them.
const yamlOf = ([name, values]) => (values ? name + ": [" + values.map((one) => JSON.stringify(one)).join(", ") + "]" : name);

function policyYaml(rule) {
  const names = [...new Set(GROUPS.map((group) => group.p && group.p.rule).filter(Boolean))];
  return ["# " + words("rules.yaml"), "version: 1", "name: keepers-of-a-report", "rules:", "  - name: " + JSON.stringify(names[0] || "all"), "    action: report", "    keeper:", ...rule.map((one) => "      - " + yamlOf(one)), ""].join("\n");
}
