// Masks as COCO writes them: run lengths, zeros first, down the columns.

const MOST_PIXELS = 100_000_000;

/**
 * Run lengths out of COCO's compressed text.
 *
 * Each number is a group of characters of 6 bits (code - 48): 5 bits of the number, the low ones first, and a bit that says
 * that more follow; bit 4 of the last one is the sign. From the fourth number on it is the difference to the one two before.
 */
export function runsOf(text) {
  const runs = [];
  let value = 0;
  let shift = 0;
  for (const character of text) {
    const bits = character.charCodeAt(0) - 48;
    if (bits < 0 || bits > 63 || shift > 25) throw new RangeError("The mask's run lengths are damaged.");
    value |= (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    if (bits & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    value = 0;
    shift = 0;
  }
  if (shift) throw new RangeError("The mask's run lengths end too early.");
  return runs;
}

/** A mask's pixels: Uint8Array [width * height] of 0 and 1, column after column. RangeError when the mask is damaged. */
export function pixelsOf({ size: [height, width], counts }) {
  const total = height * width;
  if (!(total > 0 && total <= MOST_PIXELS)) throw new RangeError("The mask's size cannot be drawn.");
  const pixels = new Uint8Array(total);
  let place = 0;
  let inside = false;
  for (const run of typeof counts === "string" ? runsOf(counts) : counts) {
    if (!(run >= 0 && place + run <= total)) throw new RangeError("The mask's runs do not fit its size.");
    if (inside) pixels.fill(1, place, place + run);
    place += run;
    inside = !inside;
  }
  if (place !== total) throw new RangeError("The mask's runs do not fill its size.");
  return pixels;
}
