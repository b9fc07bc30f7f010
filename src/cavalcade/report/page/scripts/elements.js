"use strict";
/* Elements of the page, and numbers as text. */

const FONT = 12, LONGEST = 130; // pixels of the letters of a plot, and of a name beside it

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

/** Of 95 %; of whole layers that are matched it may have no width. */
function intervalInWords({ low, high }, digits = 3) {
  return say(low, digits) === say(high, digits) ? "the same in all resamples of images"
    : `95 %: ${say(low, digits)} to ${say(high, digits)}`;
}

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const say = (value, digits = 3) => (known(value)
  ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") : "not defined");
const withError = (value, error, digits = 3) =>
  (known(error) ? `${say(value, digits)} ± ${say(error, digits)}` : say(value, digits));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const depthOf = (layer) => (layer.trunk ? layer.depth.toFixed(2) : "branch");

/** Layers with their depths, short enough to stand beside a matrix. */
const labelsOf = (network, most = LONGEST) => network.layers.map((layer) =>
  `${shortened(layer.name, most)}  ${depthOf(layer)}`);

const measured = document.createElement("canvas").getContext("2d");

/** Pixels that a text takes in the font of the plots. */
function widthOf(text, size = FONT) {
  measured.font = `${size}px "DejaVu Sans", sans-serif`;
  return measured.measureText(text).width + 4;
}

/** A text of at most some pixels: what does not fit is left out, but for start and end. */
function shortened(text, most) {
  const letters = [...text];
  let keep = letters.length, short = text;
  while (widthOf(short) > most && keep > 2) {
    keep -= 1;
    const first = Math.floor(keep / 5);
    short = [...letters.slice(0, first), "…", ...letters.slice(letters.length - keep + first)].join("");
  }
  return short;
}

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
