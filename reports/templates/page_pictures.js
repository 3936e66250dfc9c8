// Pictures in the sizes there are: the preview inside this file; from a gate, 2,048 pixels and the
// original. Decoded ones are held within a budget, for 24 megapixels take 96 MB: of six such
// originals, or of one of 144 megapixels with a rendition beside it.
const PREVIEW = 384, RENDITION = 2048, AT_ONCE_LOADS = 3, HELD_PIXELS = 150e6;
const sharp = new Map(); // "asset/size" -> { image, pixels } or { failed }; used last, held last
const wished = []; // what is still to be loaded, the latest wish first
const previews = new Map(); // number of a picture -> image element
let loading = 0, heldPixels = 0;
let toSpare = new Set(); // assets that are shown as renditions, however close: see spare()

// The best picture of a member that is here, for so many pixels on its longer side; asks for better.
// Gives { image, size } or null; `size` is "", "2048" or "full".
function bestPicture(member, wanted) {
  const longer = Math.max(member[WIDE], member[HIGH]);
  if (GATE && GATE.pictures) {
    const least = Math.min(wanted, longer) * 0.9; // a tenth more cannot be seen
    // A preview of a small picture has all of its pixels, but was compressed once more.
    const size = least > RENDITION && !toSpare.has(member[ASSET]) ? "full" : least > PREVIEW || wanted >= longer ? "2048" : "";
    for (const one of size === "full" ? ["full", "2048"] : size ? ["2048", "full"] : []) {
      const found = sharp.get(member[ASSET] + "/" + one);
      if (one === size && !found) wish(member[ASSET] + "/" + size);
      if (found && found.image) {
        sharp.delete(member[ASSET] + "/" + one);
        sharp.set(member[ASSET] + "/" + one, found);
        return { image: found.image, size: one };
      }
    }
  }
  const image = preview(member[PICTURE]);
  return image ? { image, size: "" } : null;
}

// Which of these members, those that matter first, are shown as renditions: all originals that
// are looked at must be held at once. If they were not, each would push out another that the next
// frame asks for again, without an end.
function spare(members) {
  const pixels = (member, side) => {
    const wide = Math.max(1, member[WIDE]), high = Math.max(1, member[HIGH]), scale = Math.min(1, side / Math.max(wide, high));
    return wide * high * scale * scale;
  };
  let left = HELD_PIXELS - members.reduce((sum, member) => sum + pixels(member, RENDITION), 0);
  toSpare = new Set();
  for (const member of members) {
    const more = pixels(member, Infinity) - pixels(member, RENDITION);
    if (more <= left) left -= more;
    else toSpare.add(member[ASSET]);
  }
}

function preview(index) {
  const source = picture(index);
  if (!source) return null;
  if (!previews.has(index)) {
    if (previews.size > 200) previews.clear();
    const image = new Image();
    image.onload = repaint;
    image.src = source;
    previews.set(index, image);
  }
  const image = previews.get(index);
  return image.complete && image.naturalWidth ? image : null;
}

const isLoading = (member) => wished.some((name) => name.startsWith(member[ASSET])) || [...sharp].some(([name, one]) => one.pending && name.startsWith(member[ASSET]));

function wish(name) {
  const at = wished.indexOf(name);
  if (at >= 0) wished.splice(at, 1);
  wished.unshift(name);
  wished.length = Math.min(wished.length, 24);
  loadNext();
}

// What was wished for a group that is left need not come any more.
function forgetWishes() {
  wished.length = 0;
}

async function loadNext() {
  if (loading >= AT_ONCE_LOADS || !wished.length) return;
  const name = wished.shift();
  if (sharp.has(name)) return loadNext();
  loading += 1;
  sharp.set(name, { pending: true });
  try {
    let answer = await fetch(GATE.pictures + name, { credentials: "same-origin" });
    for (let turn = 0; answer.status === 429 && turn < 5; turn += 1) {
      await new Promise((done) => setTimeout(done, 600 * (turn + 1)));
      answer = await fetch(GATE.pictures + name, { credentials: "same-origin" });
    }
    if (!answer.ok) throw new Error("status " + answer.status);
    const image = await createImageBitmap(await answer.blob());
    keepSharp(name, image);
  } catch {
    sharp.set(name, { failed: true }); // the smaller one goes on to be shown
  }
  loading -= 1;
  repaint();
  loadNext();
}

function keepSharp(name, image) {
  const pixels = image.width * image.height;
  sharp.delete(name);
  sharp.set(name, { image, pixels });
  heldPixels += pixels;
  for (const [old, one] of sharp) {
    if (heldPixels <= HELD_PIXELS || old === name) break;
    if (!one.image) continue;
    one.image.close();
    heldPixels -= one.pixels;
    sharp.delete(old);
  }
}
