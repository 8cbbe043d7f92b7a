// The ways in which a picture gets here: chosen, dropped, pasted, or drawn.

import { byId, element } from "./elements.js";
import { samples } from "./samples.js";

/** Calls `take(file, made)` for each picture; `made`: it is no file of this device yet. */
export function takePictures(take) {
  takeChosen(take);
  takeDropped(take);
  takePasted(take);
  byId("samples").append(...samples.map((sample) => sampleButton(sample, take)));
}

function takeChosen(take) {
  const input = byId("file");
  for (const id of ["choose-first", "choose-other"]) byId(id).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) take(file);
    input.value = ""; // so that the same file can be chosen again
  });
}

function takeDropped(take) {
  const stage = byId("stage");
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    stage.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) stage.classList.remove("over"); // it left the window
  });
  document.addEventListener("drop", (event) => {
    stage.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}

function takePasted(take) {
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    take(file, true);
  });
}

function sampleButton({ name, draw }, take) {
  const canvas = draw();
  const button = element("button", { type: "button", title: name }, canvas);
  button.setAttribute("aria-label", `Example: ${name}`);
  button.addEventListener("click", () => {
    canvas.toBlob((blob) => take(new File([blob], `${name}.png`, { type: blob.type }), true));
  });
  return button;
}
