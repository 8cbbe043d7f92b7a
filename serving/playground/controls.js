// Form controls made from JSON Schema.

import { element } from "./elements.js";

const MOST_STEPS = 100; // of a slider: a longer one cannot be set by hand

/** A control for one OpenAPI parameter: its `node`, and `value()` as the query has it, null where nothing need be sent.
 * `numeric`: JSON has it as a number. */
export function controlOf({ name, description, required, schema }) {
  const id = `parameter-${name}`;
  const input = inputOf(schema);
  input.id = id;
  input.name = name;
  input.required = Boolean(required);
  const hint = element("p", { className: "hint", id: `${id}-hint` }, description ?? schema.description ?? "");
  input.setAttribute("aria-describedby", hint.id);
  const row = element("div", { className: "input" }, input);
  const slider = sliderOf(schema, input, name);
  if (slider) row.prepend(slider);
  const node = element("div", { className: "field" }, element("label", { htmlFor: id }, name), row, hint);
  return { node, numeric: input.type === "number", value: () => sentValue(input, schema, required) };
}

function inputOf(schema) {
  if (schema.enum) return selectOf(schema);
  if (schema.type === "boolean") return element("input", { type: "checkbox", checked: Boolean(schema.default) });
  const input = element("input", { value: schema.default ?? "" });
  if (schema.type === "integer" || schema.type === "number") {
    input.type = "number";
    input.min = schema.minimum ?? schema.exclusiveMinimum ?? "";
    input.max = schema.maximum ?? schema.exclusiveMaximum ?? "";
    input.step = schema.type === "integer" ? "1" : "any";
  } else {
    input.type = "text";
    if (schema.maxLength !== undefined) input.maxLength = schema.maxLength;
  }
  return input;
}

function selectOf(schema) {
  const options = schema.enum.map((value) => element("option", { value: String(value) }, String(value)));
  if (schema.default == null) options.unshift(element("option", { value: "" }, "not set"));
  const select = element("select", {}, ...options);
  select.value = String(schema.default ?? "");
  return select;
}

/** A slider beside a number that has a default and two ends near enough; null where there is none. */
function sliderOf({ type, minimum, maximum, default: usual }, input, name) {
  const span = maximum - minimum; // NaN where an end is missing
  if (input.type !== "number" || usual == null || !(span > 0) || (type === "integer" && span > MOST_STEPS)) return null;
  const step = type === "integer" ? 1 : span / MOST_STEPS;
  const slider = element("input", { type: "range", min: minimum, max: maximum, step });
  slider.setAttribute("aria-label", `${name}, slider`);
  slider.value = input.value;
  slider.addEventListener("input", () => (input.value = slider.value));
  input.addEventListener("input", () => (slider.value = input.value));
  return slider;
}

function sentValue(input, schema, required) {
  const value = input.type === "checkbox" ? String(input.checked) : input.value;
  const usual = input.type === "checkbox" ? String(Boolean(schema.default)) : String(schema.default ?? "");
  return value === "" || (value === usual && !required) ? null : value;
}
