"use strict";
/* Elements of the page, and numbers as text. */

const byId = (id) => document.getElementById(id);

/** An element with text, never markup: names come from a user's files. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same of a drawing. */
function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(found, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else found.setAttribute(key, value);
  }
  found.append(...children);
  return found;
}

/** The options of a selection. */
function fill(id, names, chosen) {
  byId(id).replaceChildren(...names.map((name, k) => {
    const option = element("option", { value: k }, name);
    option.selected = k === chosen;
    return option;
  }));
}

function show(id, whether) {
  byId(id).classList.toggle("hidden", !whether);
}

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const say = (value, digits = 3) => (known(value)
  ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") : "not defined");
const withError = (value, error, digits = 3) =>
  (known(error) ? `${say(value, digits)} ± ${say(error, digits)}` : say(value, digits));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const depthOf = (layer) => (layer.trunk ? layer.depth.toFixed(2) : "branch");
const labelsOf = (network) => network.layers.map((layer) => `${layer.name}  ${depthOf(layer)}`);

/** A small note beside the pointer, while it is over something that has text for it. */
function noted(target, textAt) {
  const tip = byId("tip");
  target.addEventListener("pointermove", (event) => {
    const lines = textAt(event);
    tip.classList.toggle("hidden", !lines);
    if (!lines) return;
    tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
    const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const down = event.clientY + 18 + tip.offsetHeight > innerHeight
      ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
    Object.assign(tip.style, { left: `${Math.max(4, right)}px`, top: `${down}px` });
  });
  target.addEventListener("pointerleave", () => tip.classList.add("hidden"));
}
