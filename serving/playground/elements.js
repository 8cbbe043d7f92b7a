// Page elements. Text goes in as text, never as HTML: labels and file names are data.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Fills a select with [value, text] and keeps what was chosen where it is still there. */
export function fill(select, choices) {
  const before = select.value;
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value }, text)));
  if (choices.some(([value]) => value === before)) select.value = before;
}
