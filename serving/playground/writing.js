// Tasks that take a text in JSON: where it is written, what is sent, and the pictures that come back.

import { byId, element } from "./elements.js";

const PNG = "iVBORw0KGgo"; // how the base64 of every PNG begins
const LEAST_ACROSS = 256; // CSS pixels: smaller pictures are enlarged, pixel by pixel

/** Shows the field for the text of a task; null where it takes none. */
export function showWriting(text) {
  byId("writing").hidden = byId("gallery").hidden = !text;
  byId("text").required = Boolean(text);
  if (!text) return;
  byId("text-name").textContent = text.name;
  if (!byId("text").value) byId("text").value = text.example ?? "";
}

/** The body of a request: the text under its name and what the controls stand for, numbers as numbers. */
export function bodyOf(text, controls) {
  const body = { [text.name]: byId("text").value };
  for (const { name, numeric, value } of controls) {
    if (value() !== null) body[name] = numeric ? Number(value()) : value();
  }
  return JSON.stringify(body);
}

/** Shows the pictures of a reply, wherever in it they are, and gives the reply with their base64 cut short. */
export function showPictures(reply) {
  clearPictures();
  const found = [];
  const shown = JSON.parse(JSON.stringify(reply), (_, value) => {
    if (typeof value !== "string" || !value.startsWith(PNG)) return value;
    found.push(value);
    return `${PNG}… (${value.length} characters)`;
  });
  byId("gallery").replaceChildren(...found.map(pictureOf));
  return shown;
}

/** Takes the pictures away. */
export function clearPictures() {
  for (const image of byId("gallery").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("gallery").replaceChildren(element("p", { className: "quiet" }, "The picture will be here."));
}

function pictureOf(base64, i) {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  const image = element("img", { src, alt: `Picture ${i + 1} of “${byId("text").value}”` });
  image.addEventListener("load", () => {
    image.classList.toggle("small", image.naturalWidth < LEAST_ACROSS);
    image.width = Math.max(image.naturalWidth, LEAST_ACROSS);
  });
  const save = element("a", { href: src, download: `picture-${i + 1}.png` }, "Save");
  return element("figure", {}, image, element("figcaption", {}, save));
}
