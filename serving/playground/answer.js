// What came back, shown by what is in it: whatever has labels and scores gets bars, boxes and masks are drawn.

import { byId, element } from "./elements.js";
import { boxOf, clearDrawing, cssColour, drawOver } from "./picture.js";

const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });
const FIRST_FEW = 8; // of a row of numbers
const isShare = (value) => typeof value === "number" && value >= 0 && value <= 1;
const millis = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

/** Empties the panel and the drawing. */
export function clearAnswer() {
  byId("problem").replaceChildren();
  byId("result").replaceChildren();
  byId("json").textContent = "";
  clearDrawing();
}

/** Shows what went wrong: {title, detail, remedy} as in a problem document, and facts about it. */
export function showProblem({ title, detail, remedy }, facts = []) {
  const shown = [element("h2", {}, title ?? "The server refused"), element("p", {}, detail ?? "")];
  if (remedy) shown.push(element("p", { className: "remedy" }, remedy));
  if (facts.length) shown.push(element("p", { className: "hint" }, facts.join(" · ")));
  byId("problem").replaceChildren(...shown);
}

/** Shows an answer: {headers, tookMs, reply | picture}. `size`: of the upright picture. Gives a sentence that says it. */
export function showAnswer({ headers, tookMs, reply, picture }, size) {
  const who = [headers.get("tidegate-model") ?? reply?.model, headers.get("tidegate-version") ?? reply?.version];
  const head = element(
    "p",
    { className: "who" },
    element("strong", {}, who[0] ?? ""),
    element("span", { className: "badge" }, who[1] == null ? "" : `version ${who[1]}`),
    element("span", { className: "took" }, millis(tookMs)),
  );
  const predictions = Array.isArray(reply?.predictions) ? reply.predictions : null;
  byId("result").replaceChildren(
    head,
    ...plainParts(reply),
    ...(picture ? [pictureNode(picture)] : []),
    ...(predictions ? [listOf(predictions, reply.image ?? size)] : []),
    timingNode(headers.get("server-timing") ?? "", tookMs),
  );
  const first = predictions?.[0];
  const text = typeof reply?.text === "string" ? `: ${reply.text}` : "";
  const found = first ? `: ${first.label ?? ""}${isShare(first.score) ? ` ${percent.format(first.score)}` : ""}` : text;
  return `Answered in ${millis(tookMs)}${found}`;
}

function pictureNode(blob) {
  const image = element("img", { src: URL.createObjectURL(blob), alt: "The picture that came back", className: "came" });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return image;
}

/** What an answer says beside its predictions: its text, and its numbers, of a long row of them the first few. */
function plainParts(reply) {
  const { text, model, version, predictions, ...rest } = reply ?? {};
  const nodes = typeof text === "string" ? [element("blockquote", {}, text)] : [];
  const plain = (value) => ["number", "string", "boolean"].includes(typeof value) || isRow(value);
  const facts = Object.entries(rest).filter(([, value]) => plain(value));
  if (!facts.length) return nodes;
  const shown = facts.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, textOf(value)),
  ]);
  return [...nodes, element("dl", {}, ...shown)];
}

const isRow = (value) => Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "number");

function textOf(value) {
  if (typeof value === "number") return number.format(value);
  if (!isRow(value)) return String(value);
  const first = value.slice(0, FIRST_FEW).map((one) => number.format(one)).join("  ");
  return value.length > FIRST_FEW ? `${first}  …` : first;
}

function listOf(predictions, size) {
  if (!predictions.length) return element("p", { className: "quiet" }, "The model found nothing.");
  let highlight = () => {};
  const drawn = predictions.some((one) => one.mask || boxOf(one));
  const items = predictions.map((one, i) => {
    const item = itemOf(one, drawn);
    if (drawn) {
      item.tabIndex = 0;
      for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => highlight(i));
      for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => highlight(null));
    }
    return item;
  });
  const list = element("ol", { className: "predictions" }, ...items);
  try {
    highlight = drawOver(predictions, size);
  } catch (error) {
    clearDrawing();
    return element("div", {}, element("p", { className: "remedy" }, `It cannot be drawn: ${error.message}`), list);
  }
  return list;
}

function itemOf(prediction, drawn) {
  const { label, score, area, value, unit } = prediction;
  const name = element("span", { className: "label" }, String(label ?? value ?? ""));
  if (unit) name.append(` ${unit}`);
  if (Number.isFinite(area)) name.append(element("span", { className: "hint" }, ` ${number.format(area)} px`));
  const shown = typeof score !== "number" ? "" : isShare(score) ? percent.format(score) : number.format(score);
  const item = element("li", {}, name, element("span", { className: "score" }, shown));
  if (isShare(score)) {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--share", score);
    item.append(bar);
  }
  if (drawn) {
    item.classList.add("drawn");
    item.style.setProperty("--colour", cssColour(prediction));
  }
  return item;
}

/** Stages out of a Server-Timing header: [name, milliseconds]. Source: https://www.w3.org/TR/server-timing/ */
export function stagesOf(header) {
  return header.split(",").flatMap((entry) => {
    const [name, ...fields] = entry.split(";").map((text) => text.trim());
    const duration = Number(fields.find((field) => field.startsWith("dur="))?.slice(4));
    return name && Number.isFinite(duration) ? [[name, duration]] : [];
  });
}

/** Where the time went, as one bar with a legend; what no stage accounts for is the way there and back. */
function timingNode(header, tookMs) {
  const stages = stagesOf(header);
  const rest = tookMs - stages.reduce((sum, [, duration]) => sum + duration, 0);
  const parts = [...stages, ["transfer", Math.max(0, rest)]];
  const bar = element("div", { className: "stages" });
  bar.setAttribute("aria-hidden", "true");
  const legend = element("ul", { className: "legend" });
  legend.setAttribute("aria-label", "Where the time went");
  parts.forEach(([name, duration], i) => {
    const share = element("span", { className: `stage-${i % 6}` });
    share.style.flexGrow = duration;
    bar.append(share);
    legend.append(element("li", { className: `stage-${i % 6}` }, `${name} ${millis(duration)}`));
  });
  return element("div", { className: "timing" }, bar, legend);
}
