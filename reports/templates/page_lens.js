// How pictures are drawn on the light table. There is one eye for all: a point and a scale in the
// picture that stays; every other member is drawn so that the same thing lies at the same place in
// the same size, as the evidence says the two lie on each other.
const eye = { x: 0.5, y: 0.5, zoom: 0, fitted: true }; // zoom: pixels of the screen per pixel of the keeper
const MOST_ZOOM = 32, LENS = 110;

const density = () => Math.min(2, devicePixelRatio || 1);

// From the keeper's frame (0..1) to a member's, and how many of its pixels make one of the keeper's.
function layOf(group, at) {
  const keeper = keeperOf(group), pair = at === keeper ? null : pairOf(group, keeper, at);
  const map = pair ? pair.map : [1, 0, 0, 1, 0, 0], one = group.m[keeper], two = group.m[at];
  const area = Math.abs(map[0] * map[3] - map[1] * map[2]);
  const scale = Math.sqrt(area * two[WIDE] * two[HIGH] / Math.max(1, one[WIDE] * one[HIGH])) || 1;
  return { map, scale, pair };
}

// The box around all of these members, in the keeper's pixels.
function boxOf(group, members) {
  const keeper = group.m[keeperOf(group)], wide = Math.max(1, keeper[WIDE]), high = Math.max(1, keeper[HIGH]);
  let [left, top, right, bottom] = [0, 0, wide, high];
  for (const at of members) {
    const { map, scale } = layOf(group, at), middle = through(inverse(map), [0.5, 0.5]);
    // Drawn upright, whatever the map turns: half of its sides to either side of its middle.
    const half = [group.m[at][WIDE] / scale / 2, group.m[at][HIGH] / scale / 2];
    left = Math.min(left, middle[0] * wide - half[0]);
    right = Math.max(right, middle[0] * wide + half[0]);
    top = Math.min(top, middle[1] * high - half[1]);
    bottom = Math.max(bottom, middle[1] * high + half[1]);
  }
  const far = (value, side) => Math.min(2 * side, Math.max(-side, value)); // a map gone wrong must not shrink all
  [left, right, top, bottom] = [far(left, wide), far(right, wide), far(top, high), far(bottom, high)];
  return { left, top, wide: right - left, high: bottom - top };
}

function fitEye(group, members, paneWide, paneHigh) {
  const box = boxOf(group, members), keeper = group.m[keeperOf(group)];
  eye.x = (box.left + box.wide / 2) / Math.max(1, keeper[WIDE]);
  eye.y = (box.top + box.high / 2) / Math.max(1, keeper[HIGH]);
  eye.zoom = Math.min(paneWide / box.wide, paneHigh / box.high) * 0.98;
  eye.fitted = true;
}

function clampEye() {
  eye.x = Math.min(1.5, Math.max(-0.5, eye.x));
  eye.y = Math.min(1.5, Math.max(-0.5, eye.y));
}

// Where a member lies on its pane: left, top, width, height in pixels of the screen.
function spotOf(group, at, wide, high) {
  const { map, scale } = layOf(group, at), member = group.m[at], zoom = eye.zoom / scale;
  const [x, y] = through(map, [eye.x, eye.y]);
  const w = Math.max(1, member[WIDE]) * zoom, hi = Math.max(1, member[HIGH]) * zoom;
  return { left: wide / 2 - x * w, top: high / 2 - y * hi, wide: w, high: hi, zoom };
}

// A canvas as large as its place, in the pixels of the screen.
function prepared(canvas) {
  const wide = canvas.clientWidth, high = canvas.clientHeight, ratio = density();
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
  }
  const pen = canvas.getContext("2d", { alpha: false });
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.globalCompositeOperation = "source-over";
  pen.globalAlpha = 1;
  pen.fillStyle = getComputedStyle(canvas).backgroundColor;
  pen.fillRect(0, 0, wide, high);
  return { pen, wide, high };
}

// Draws one member alone; says which size it had.
function drawMember(canvas, group, at, lens) {
  const { pen, wide, high } = prepared(canvas), spot = spotOf(group, at, wide, high), member = group.m[at];
  const best = bestPicture(member, Math.max(spot.wide, spot.high) * density());
  if (best) {
    pen.imageSmoothingEnabled = spot.zoom < 3; // from afar smooth, close by the pixels themselves
    pen.drawImage(best.image, spot.left, spot.top, spot.wide, spot.high);
  }
  if (marksOn) drawMarks(pen, group, at, spot);
  if (lens) drawLens(pen, group, at, wide, high, lens);
  return best;
}

// The loupe: a round window in which each pane shows its pixels one to one, at the same thing.
function drawLens(pen, group, at, wide, high, lens) {
  const before = { ...eye }, keeper = group.m[keeperOf(group)];
  const px = lens.x * wide, py = lens.y * high, radius = Math.min(LENS, wide / 3, high / 3);
  const there = [eye.x + (px - wide / 2) / (eye.zoom * Math.max(1, keeper[WIDE])), eye.y + (py - high / 2) / (eye.zoom * Math.max(1, keeper[HIGH]))];
  Object.assign(eye, { x: there[0], y: there[1], zoom: 1 / density() });
  const spot = spotOf(group, at, wide, high), best = bestPicture(group.m[at], Math.max(spot.wide, spot.high) * density());
  Object.assign(eye, before);
  pen.save();
  pen.beginPath();
  pen.arc(px, py, radius, 0, 7);
  pen.clip();
  pen.fillStyle = "#000";
  pen.fillRect(px - radius, py - radius, 2 * radius, 2 * radius);
  if (best) {
    // Only what is seen of it: else the whole original would be laid out behind the window.
    const left = spot.left + px - wide / 2, top = spot.top + py - high / 2, across = best.image.width / spot.wide, down = best.image.height / spot.high;
    pen.drawImage(best.image, (px - radius - left) * across, (py - radius - top) * down, 2 * radius * across, 2 * radius * down, px - radius, py - radius, 2 * radius, 2 * radius);
  }
  pen.restore();
  pen.beginPath();
  pen.arc(px, py, radius, 0, 7);
  stroke(pen, "#fff", 4);
  stroke(pen, "#1b1f24", 1.5);
}

function stroke(pen, colour, width, dash) {
  pen.setLineDash(dash || []);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}

// Where the other picture lies in this one, and the place that differs.
function drawMarks(pen, group, at, spot) {
  const keeper = keeperOf(group), other = at === keeper ? comparedWith(group) : keeper;
  const pair = other === undefined ? null : pairOf(group, at, other);
  if (!pair) return;
  const back = inverse(pair.map), onPane = ([x, y]) => [spot.left + x * spot.wide, spot.top + y * spot.high];
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map((corner) => through(back, corner));
  if (corners.some(([x, y]) => (x > 0.02 && x < 0.98) || (y > 0.02 && y < 0.98))) {
    pen.beginPath();
    corners.map(onPane).forEach(([x, y], nth) => (nth ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    stroke(pen, "#fff", 4);
    stroke(pen, "#c2185b", 2, [9, 5]);
  }
  for (const place of placesOf(pair)) {
    const [x, y] = onPane(place.inTwo ? through(back, place.at) : place.at);
    const radius = Math.min(Math.max(14, 1.25 * Math.sqrt(place.share / Math.PI) * Math.sqrt(spot.wide * spot.high)), Math.min(spot.wide, spot.high) / 2);
    pen.beginPath();
    pen.ellipse(x, y, radius * 1.1, radius * 0.9, 0, 0, 7);
    stroke(pen, "#fff", 5);
    stroke(pen, "#b00020", 2.5);
  }
}

// The keeper and one duplicate on each other, as the chosen comparison wants it.
function drawLaid(canvas, group, other) {
  const { pen, wide, high } = prepared(canvas), keeper = keeperOf(group), one = group.m[keeper], two = group.m[other];
  const spot = spotOf(group, keeper, wide, high), ratio = density(), { map } = layOf(group, other);
  const first = bestPicture(one, Math.max(spot.wide, spot.high) * ratio);
  const second = bestPicture(two, Math.max(spot.wide, spot.high) * ratio);
  const onKeeper = () => pen.setTransform(ratio * spot.zoom, 0, 0, ratio * spot.zoom, ratio * spot.left, ratio * spot.top);
  const plain = () => pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const w = Math.max(1, one[WIDE]), hi = Math.max(1, one[HIGH]), w2 = Math.max(1, two[WIDE]), hi2 = Math.max(1, two[HIGH]);
  pen.imageSmoothingEnabled = spot.zoom < 3;
  onKeeper();
  if (first) pen.drawImage(first.image, 0, 0, w, hi);
  if (second && !(mode === "flicker" && !amount)) {
    pen.save();
    if (mode === "slider") {
      plain();
      pen.beginPath();
      pen.rect(wide * amount / 100, 0, wide, high);
      pen.clip();
      onKeeper();
    }
    if (mode === "overlay") pen.globalAlpha = amount / 100;
    if (mode === "difference") pen.globalCompositeOperation = "difference";
    const [a, b, c, d, e, f] = inverse(map);
    pen.transform(a * w / w2, b * hi / w2, c * w / hi2, d * hi / hi2, e * w, f * hi);
    pen.drawImage(second.image, 0, 0, w2, hi2);
    pen.restore();
  }
  plain();
  if (mode === "difference") {
    pen.globalCompositeOperation = "lighter"; // each turn doubles it
    for (let turn = 0; turn < 2; turn += 1) pen.drawImage(canvas, 0, 0, wide, high);
    pen.globalCompositeOperation = "source-over";
  }
  if (mode === "slider") {
    pen.beginPath();
    pen.moveTo(wide * amount / 100, 0);
    pen.lineTo(wide * amount / 100, high);
    stroke(pen, "#1b1f24", 4);
    stroke(pen, "#fff", 2);
  }
  if (marksOn) drawMarks(pen, group, keeper, spot);
  return first && second ? first : null;
}
