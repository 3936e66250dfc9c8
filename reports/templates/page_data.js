"use strict";
// The data of the page, and how it is put on the screen. Keys, tags and metadata come from
// strangers: they only ever become text nodes and attributes, never markup.
const byId = (id) => document.getElementById(id);
const DATA = (() => {
  const element = byId("data");
  const data = JSON.parse(element.textContent);
  element.textContent = ""; // it would be kept twice
  return data;
})();
const GROUPS = DATA.groups;
const PLAN = DATA.plan;
const GATE = DATA.gate;
const TEXTS = DATA.words;
const words = (name, values) => TEXTS[name].replace(/\{(\w+)\}/g, (_, one) => values[one]);
const TIERS = ["exact", "near", "similar"];
const TIER_WORDS = TIERS.map((tier) => words("tier." + tier));
const STAYS = words("role.keeper"), COPY = words("role.duplicate");
const STATES = ["new", "changed", "known"].map((state) => words("state." + state));
let seen = ""; // the view that is open
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Members come as rows, to be small; these are their columns.
const KEY = 0, ASSET = 1, TIER = 2, SCORE = 3, WIDE = 4, HIGH = 5, FORMAT = 6, SIZE = 7, QUALITY = 8,
  WHEN = 9, LABEL = 10, FLAGS = 11, PICTURE = 12;
const byGroup = new Map(GROUPS.map((group, at) => [group.i, at]));

function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function s(name, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [kind, act] of Object.entries(value)) element.addEventListener(kind, act);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// In place of what an element holds.
function put(element, ...children) {
  element.replaceChildren();
  return fill(element, {}, children);
}

// What is invisible is made visible: it could make one key look like another.
function shown(text) {
  return String(text).replace(/[\p{C}\u2028\u2029]/gu, (char) => {
    const code = char.codePointAt(0);
    const named = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
    if (named) return named;
    if (code < 256) return "\\x" + code.toString(16).padStart(2, "0");
    return code < 65536 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
  });
}

const bdi = (text, kind) => h("bdi", { class: kind }, shown(text));
const baseName = (key) => key.replace(/\/+$/, "").split("/").pop() || key;
const folder = (key) => key.slice(0, key.length - baseName(key).length);
const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, words("number.thousands"));
const marked = (text) => text.replace(".", words("number.decimal"));
const counted = (value, noun) => words("n." + noun + (value === 1 ? ".one" : ".other"), { number: number(value) });

function bytes(size) {
  let value = size;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(value) < (unit === "B" ? 1000 : 999.95)) return (unit === "B" ? value.toFixed(0) : marked(value.toFixed(1))) + " " + unit;
    value /= 1000;
  }
  return marked(value.toFixed(1)) + " TB";
}

function money(size) {
  if (!DATA.price || !size) return "";
  const cost = (size / 1e9) * DATA.price;
  return cost >= 0.01 ? words("ui.money", { amount: marked(cost.toFixed(2)) }) : "";
}

const moment = (seconds) => seconds === null ? "" : new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
const percent = (score) => marked(score.toFixed(2));

// ---- pictures: parsed part by part, when they are first looked at ----------------------------
const parts = new Map();

function picture(index) {
  if (index < 0) return null;
  const at = Math.floor(index / DATA.perPart);
  if (!parts.has(at)) {
    const element = byId("pictures-" + at);
    parts.set(at, element ? JSON.parse(element.textContent) : []);
    if (element) element.textContent = "";
  }
  const text = parts.get(at)[index % DATA.perPart];
  if (!text) return null;
  return "data:image/" + (text.startsWith("/9j/") ? "jpeg" : "webp") + ";base64," + text;
}

// The side lengths of a picture on the screen: those of the catalog's thumbnails.
function sides(member) {
  const wide = Math.max(member[WIDE], 1), high = Math.max(member[HIGH], 1);
  const less = 384 / Math.max(wide, high);
  return [Math.max(1, wide * less), Math.max(1, high * less)];
}

// ---- pairs: what is known of two members, seen from either ------------------------------------
function pairOf(group, one, two) {
  const found = group.e.find((edge) => (edge[0] === one && edge[1] === two) || (edge[0] === two && edge[1] === one));
  if (!found) return null;
  const [first, , tier, score, changes, original, reasons, map, covered, differs] = found;
  const turned = first !== one;
  return {
    tier, score, changes, reasons,
    original: original === 0 ? "either" : (original === 1) !== turned ? "one" : "two",
    // From 0..1 of the first picture to 0..1 of the second; equal pictures lie on each other.
    map: map ? (turned ? inverse(map) : map) : [1, 0, 0, 1, 0, 0],
    covered: placeOf(covered, turned), differs: placeOf(differs, turned),
  };
}

const placeOf = (place, turned) => (place ? { inTwo: (place[0] === 1) !== turned, at: [place[1], place[2]], share: place[3] } : null);

// Where two pictures differ: what was added or covered, and what stands out; of two that are one place, one.
function placesOf({ covered, differs }) {
  if (!covered || !differs) return covered ? [covered] : differs ? [differs] : [];
  const near = covered.inTwo === differs.inTwo && Math.hypot(covered.at[0] - differs.at[0], covered.at[1] - differs.at[1]) < 0.15;
  return near ? [covered] : [covered, differs];
}

function evidenceWords(pair) {
  if (!pair) return words("seen.not");
  if (pair.original === "two") return words("seen.original", { reasons: pair.reasons, changes: pair.changes });
  return pair.reasons && pair.original === "one" ? words("seen.is.original", { changes: pair.changes, reasons: pair.reasons }) : pair.changes;
}

function inverse([a, b, c, d, e, f]) {
  const area = a * d - b * c;
  if (Math.abs(area) < 1e-9) return [1, 0, 0, 1, 0, 0];
  return [d / area, -b / area, -c / area, a / area, (c * f - d * e) / area, (b * e - a * f) / area];
}

const through = ([a, b, c, d, e, f], [x, y]) => [a * x + c * y + e, b * x + d * y + f];
