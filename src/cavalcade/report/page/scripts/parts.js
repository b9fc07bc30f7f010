"use strict";
/* Parts of the page: scripts that call report.receive, loaded when they are looked at. */

const asked = new Map(); // name of a part -> its promise, and what fulfils it
const turns = new Map(); // section -> how often it was asked for

const report = { receive };

/** Whether nothing newer was asked of a section since; what is late must not be shown. */
function turn(section) {
  const own = (turns.get(section) || 0) + 1;
  turns.set(section, own);
  byId(section)?.classList.remove("empty");
  return () => turns.get(section) === own;
}

function entry(name) {
  if (!asked.has(name)) {
    const one = {};
    one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
    asked.set(name, one);
  }
  return asked.get(name);
}

function receive(name, content) {
  const one = entry(name);
  one.received = true;
  one.script = one.script || Promise.resolve();
  unpacked(content).then(one.resolve, () => one.reject(broken(name)));
}

/** What cannot be unpacked, or ends before it has called `receive`. */
const broken = (name) => problemOf(`parts/${name}.js`,
  window.DecompressionStream ? "is broken" : "needs a browser that can unpack it, of 2023 or later");

/** The content of a part, whose script may be there already. */
function load(name) {
  const one = entry(name);
  if (!one.script) {
    one.script = script(`parts/${name}.js`);
    one.script.then(() => one.received || one.reject(broken(name)), one.reject);
  }
  if (name.startsWith("pair-")) one.promise.catch(() => withoutPair(name));
  return one.promise;
}

/** Else the pair before would stand below the names of this one. */
function withoutPair(name) {
  const { pair } = stored();
  if (name === `pair-${pair.a}-${pair.b}`) ["pair", "cell"].forEach(empty);
}

/** Hide what a section showed before, until something else is asked of it. */
function empty(section) {
  byId(section).classList.add("empty");
}

/** Runs a script of the folder. */
function script(path) {
  return new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.onload = resolve;
    tag.onerror = () => reject(problemOf(path, "is missing beside this page"));
    tag.src = path;
    document.head.append(tag);
  });
}

async function unpacked(value) {
  if (Array.isArray(value)) {
    return value.some((each) => each && typeof each === "object")
      ? Promise.all(value.map(unpacked)) : value;
  }
  if (value === null || typeof value !== "object") return value;
  if ("packed" in value) return unpackedArray(value);
  const found = {};
  for (const [key, each] of Object.entries(value)) found[key] = await unpacked(each);
  return found;
}

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array };

async function unpackedArray({ packed, type, shape }) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const data = type === "rounded" ? fromPlanes(new Uint8Array(buffer)) : new ARRAYS[type](buffer);
  return { shape, data };
}

/** Thousandths, all lower bytes before all upper ones; the least is NaN. */
function fromPlanes(bytes) {
  const count = bytes.length / 2, found = new Float32Array(count);
  for (let k = 0; k < count; k++) {
    const whole = ((bytes[count + k] << 24) >> 16) | bytes[k];
    found[k] = whole === -32768 ? NaN : whole / 1000;
  }
  return found;
}

/** Rows of numbers, null for NaN. */
function matrixOf({ data, shape: [rows, columns] }, turned = false) {
  const value = (i, j) => (turned ? data[j * columns + i] : data[i * columns + j]);
  return Array.from({ length: turned ? columns : rows }, (_, i) =>
    Array.from({ length: turned ? rows : columns }, (__, j) =>
      (Number.isNaN(value(i, j)) ? null : value(i, j))));
}
