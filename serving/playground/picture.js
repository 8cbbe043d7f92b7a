// The picture and what is drawn over it: masks on a canvas, boxes as elements, in pixels of the upright picture.

import { pixelsOf } from "./rle.js";
import { byId, element } from "./elements.js";

const LEAST_ACROSS = 240; // CSS pixels: smaller pictures are enlarged
const MOST_ACROSS = 1024; // pixels of the canvas of masks
const INSIDE = 110; // alpha
const EDGE = 235;
const COLOURS = [
  [64, 156, 255], [255, 159, 64], [52, 199, 123], [255, 105, 135], [178, 132, 255], [38, 198, 205], [240, 200, 50],
  [255, 125, 90], [140, 205, 70], [235, 115, 215], [120, 150, 255], [200, 165, 120],
];

/** The colour of a class, the same in every answer. */
export function colourOf({ class_id, label }) {
  const number = class_id ?? [...String(label)].reduce((sum, one) => sum + one.codePointAt(0), 0);
  return COLOURS[Math.abs(number) % COLOURS.length];
}

export const cssColour = (prediction) => `rgb(${colourOf(prediction).join(" ")})`;

/** A prediction's box {x, y, width, height}, from corners or as COCO has it; null where there is none. */
export function boxOf({ box, bbox }) {
  const numbers = box ? [box.xmin, box.ymin, box.xmax, box.ymax] : bbox;
  if (!Array.isArray(numbers) || numbers.length !== 4 || !numbers.every(Number.isFinite)) return null;
  const [x, y, right, bottom] = numbers;
  return box ? { x, y, width: right - x, height: bottom - y } : { x, y, width: right, height: bottom };
}

/** Shows a file as the picture, upright as its EXIF data has it; false when this browser cannot. */
export async function showPicture(file) {
  const image = byId("picture");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  clearDrawing();
  image.style.width = "";
  try {
    await image.decode();
  } catch {
    return false;
  }
  const enlarged = LEAST_ACROSS / Math.max(image.naturalWidth, image.naturalHeight);
  image.classList.toggle("small", enlarged > 1);
  if (enlarged > 1) image.style.width = `${Math.round(enlarged * image.naturalWidth)}px`;
  return true;
}

export function clearDrawing() {
  byId("boxes").replaceChildren();
  byId("masks").width = byId("masks").height = 0;
}

/** Draws the predictions' boxes and masks. The result draws them anew with one of them in front, by its place. */
export function drawOver(predictions, size) {
  const masks = predictions.map((one) => (one.mask ? scaled(one.mask) : null));
  const boxes = predictions.map((one) => boxNode(one, size));
  byId("boxes").replaceChildren(...boxes.filter(Boolean));
  const draw = (chosen) => {
    boxes.forEach((node, i) => node?.classList.toggle("faded", chosen !== null && chosen !== i));
    paint(masks.map((mask, i) => (chosen === null || chosen === i ? mask : null)), predictions);
  };
  draw(null);
  return draw;
}

function boxNode(prediction, { width, height }) {
  const box = boxOf(prediction);
  if (!box) return null;
  const node = element("div", { className: "box" }, element("span", {}, String(prediction.label ?? "")));
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  node.style.left = percent(box.x, width);
  node.style.top = percent(box.y, height);
  node.style.width = percent(box.width, width);
  node.style.height = percent(box.height, height);
  node.style.setProperty("--colour", cssColour(prediction));
  node.classList.toggle("low", box.y < 0.08 * height);
  return node;
}

/** A mask in the canvas's own size: {width, height, alpha}, row after row, with its edge set off. */
function scaled(mask) {
  const [fullHeight, fullWidth] = mask.size;
  const pixels = pixelsOf(mask);
  const factor = Math.min(1, MOST_ACROSS / Math.max(fullWidth, fullHeight));
  const width = Math.max(1, Math.round(fullWidth * factor));
  const height = Math.max(1, Math.round(fullHeight * factor));
  const inside = (x, y) =>
    x >= 0 && y >= 0 && x < width && y < height &&
    pixels[Math.floor(((x + 0.5) * fullWidth) / width) * fullHeight + Math.floor(((y + 0.5) * fullHeight) / height)];
  const alpha = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside(x, y)) continue;
      const deep = inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1);
      alpha[y * width + x] = deep ? INSIDE : EDGE;
    }
  }
  return { width, height, alpha };
}

/** Paints masks over each other, the first on top. They are all of the picture's size, so of one size. */
function paint(masks, predictions) {
  const canvas = byId("masks");
  const first = masks.find(Boolean);
  canvas.width = first?.width ?? 0;
  canvas.height = first?.height ?? 0;
  if (!first) return;
  const context = canvas.getContext("2d");
  const image = context.createImageData(first.width, first.height);
  for (let i = masks.length - 1; i >= 0; i--) {
    const mask = masks[i];
    if (mask?.alpha.length !== first.alpha.length) continue;
    const [red, green, blue] = colourOf(predictions[i]);
    for (let place = 0; place < mask.alpha.length; place++) {
      if (!mask.alpha[place]) continue;
      image.data[4 * place] = red;
      image.data[4 * place + 1] = green;
      image.data[4 * place + 2] = blue;
      image.data[4 * place + 3] = mask.alpha[place];
    }
  }
  context.putImageData(image, 0, 0);
}
