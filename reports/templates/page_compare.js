// The keeper and one duplicate laid over each other, as the evidence says they lie.
const MODES = Object.fromEntries(["side", "overlay", "flicker", "slider", "difference"].map((name) => [name, words("ui.mode." + name)]));
const MODE_KEYS = { overlay: "o", flicker: "f", slider: "x", difference: "e" };
let mode = "side", amount = 50, flickering = 0;

function setMode(wanted) {
  // Where nothing may move by itself, each press of the key shows the other picture.
  if (wanted === "flicker" && mode === "flicker" && calm.matches) amount = amount ? 0 : 100;
  else if (wanted === mode) mode = "side";
  else {
    mode = wanted;
    amount = wanted === "flicker" ? 100 : 50;
  }
  drawGroup();
}

function stage(group) {
  clearInterval(flickering);
  const keeper = keeperOf(group), other = comparedWith(group);
  const bar = h("div", { class: "modes", role: "toolbar", "aria-label": words("ui.comparison") }, ...Object.entries(MODES).map(([name, label]) =>
    h("button", { type: "button", id: "mode-" + name, class: "small", "aria-pressed": String(mode === name), on: { click: () => (name === "side" ? setMode(mode) : setMode(name)) } }, label, MODE_KEYS[name] ? [" ", h("kbd", {}, MODE_KEYS[name])] : null)),
    h("button", { type: "button", id: "open-table", class: "small", "aria-keyshortcuts": "t", on: { click: openTable } }, words("table.open"), " ", h("kbd", {}, "t")));
  if (mode === "side" || other === undefined) return bar;
  const one = group.m[keeper], two = group.m[other], first = picture(one[PICTURE]), second = picture(two[PICTURE]);
  if (!first || !second) return h("div", {}, bar, h("p", { class: "soft" }, words("ui.noboth")));
  const pair = pairOf(group, keeper, other);
  const [wide, high] = sides(one), [wide2, high2] = sides(two);
  const [a, b, c, d, e, f] = inverse(pair ? pair.map : [1, 0, 0, 1, 0, 0]);
  // From the duplicate's pixels to the keeper's.
  const matrix = [a * wide / wide2, b * high / wide2, c * wide / high2, d * high / high2, e * wide, f * high];
  const laid = s("g", { "clip-path": mode === "slider" ? "url(#cut)" : null }, s("image", { href: second, width: wide2, height: high2, preserveAspectRatio: "none", transform: "matrix(" + matrix.join(" ") + ")" }));
  const cut = s("rect", { x: 0, y: 0, width: wide, height: high }), handle = s("path", { class: "handle" });
  const said = MODES[mode] + ": " + words("role.keeper.low") + " " + shown(one[KEY]) + ", " + COPY + " " + shown(two[KEY]) + ": " + evidenceWords(pair);
  const svg = s("svg", { viewBox: "0 0 " + wide + " " + high, role: "img", "aria-label": said, class: "laid " + mode },
    s("clipPath", { id: "cut" }, cut), s("image", { href: first, width: wide, height: high, preserveAspectRatio: "none" }), laid, mode === "slider" ? handle : null);
  const shownNow = h("span", { class: "soft small", role: "status" });
  const set = (value) => {
    amount = value;
    if (mode === "overlay") laid.style.opacity = value / 100;
    if (mode === "flicker") laid.style.visibility = value ? "visible" : "hidden";
    if (mode === "slider") {
      cut.setAttribute("x", wide * value / 100);
      handle.setAttribute("d", "M" + wide * value / 100 + " 0V" + high);
    }
    if (mode === "flicker") shownNow.textContent = value ? words("ui.theduplicate") : words("role.keeper.low");
  };
  set(amount);
  const range = mode === "overlay" || mode === "slider" ? h("input", { type: "range", id: "amount", min: 0, max: 100, value: amount, "aria-label": words("table." + mode), on: { input: (event) => set(Number(event.target.value)) } }) : null;
  if (mode === "flicker" && !calm.matches) flickering = setInterval(() => set(amount ? 0 : 100), 650);
  if (mode === "slider") svg.addEventListener("pointermove", (event) => {
    if (!event.buttons && event.pointerType !== "mouse") return;
    const box = svg.getBoundingClientRect();
    set(Math.min(100, Math.max(0, (event.clientX - box.left) / box.width * 100)));
    if (range) range.value = amount;
  });
  const hint = { overlay: [words("ui.stays"), COPY], slider: ["", ""], flicker: ["", ""], difference: ["", ""] }[mode];
  return h("div", { class: "stage" }, bar, svg, h("div", { class: "stage-foot" }, hint[0] ? h("span", { class: "small" }, hint[0]) : null, range, hint[1] ? h("span", { class: "small" }, hint[1]) : null, shownNow,
    mode === "difference" ? h("span", { class: "soft small" }, words("ui.shines")) : null, mode === "slider" ? h("span", { class: "soft small" }, words("ui.sides")) : null));
}
