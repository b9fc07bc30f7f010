"use strict";
/* A cell: the concepts of two layers, side by side on test images. */

const AT_ONCE = 6; // rows that are painted before those below them, which may be many

/** Show the concepts of two layers, one of them first. */
async function choose(row, column, concept = null) {
  [state.row, state.column] = [row, column];
  const matrix = byId("matrix");
  const newest = turn("cell"), [a, b] = [state.a, state.b];
  if (matrix._fullLayout) await Plotly.relayout(matrix, { shapes: [frame()] });
  if (!newest()) return;
  const shown = await chosenPair(newest);
  if (!shown) return;
  sayCell(shown);
  if (!start.images.length) {
    byId("matches").replaceChildren(element("p", { class: "lead" },
      "The run keeps no thumbnails of its test images (data.thumbnails)."));
    return;
  }
  const [ours, theirs] = await both([load(`masks-${a}-${row}`), load(`masks-${b}-${column}`)], newest);
  if (!newest()) return;
  await showMatches({ ...shown, place: `${a}-${row}-${b}-${column}` }, ours, theirs, concept, newest);
}

/** Two parts; without them nothing that was shown before is left. */
async function both(parts, newest) {
  try {
    return await Promise.all(parts);
  } catch (problem) {
    if (newest()) byId("matches").replaceChildren();
    throw problem;
  }
}

function sayCell(shown) {
  const { a, b } = shown, layers = [a.layers[state.row].name, b.layers[state.column].name];
  const names = `${layers[0]} of ${a.name} and ${layers[1]} of ${b.name}`;
  const facts = factsOf(shown, state.row, state.column, state.measure);
  byId("reading").textContent = `Chosen: ${names}. ${facts.join("; ")}.`;
  byId("cell-lead").textContent = `${names}. ${facts[0]}. A concept fires inside the yellow line` +
    `${start.labelled ? "; the dashed blue line is its label" : ""}. Of each concept the images ` +
    "on which it is strong at both layers.";
}

/** All that is known of a cell; a layer with itself is no finding. */
function factsOf(shown, row, column, first = start.similarity) {
  return shown.pair.a === shown.pair.b && row === column ? ["The same layer"]
    : numbersOf(shown, row, column, first);
}

async function showMatches(shown, ours, theirs, concept, newest) {
  const { content, a, b } = shown, last = (value) => (known(value) ? value : -2);
  const rows = (content.partners ? partnersAt : sameNamesAt)(shown, ours, theirs);
  rows.sort((x, y) => last(y.value) - last(x.value));
  if (concept) rows.sort((x, y) => (y.name === concept) - (x.name === concept));
  const heading = element("div", { class: "row heading" }, element("div", {}, "concept"),
    element("div", {}, `${a.name}: ${a.layers[state.row].name}`),
    element("div", {}, `${b.name}: ${b.layers[state.column].name}`));
  byId("matches").replaceChildren(heading);
  for (let k = 0; k < rows.length && newest(); k += AT_ONCE) {
    const made = rows.slice(k, k + AT_ONCE).map((row) => matchRow(row, ours, theirs));
    await Promise.all(made.map((each) => each.painted));
    if (!newest()) return;
    byId("matches").append(...made.map((each) => each.row));
    if (k === 0) byId("matches").dataset.shown = shown.place;
    await painted();
  }
}

function matchRow({ title, k, l, value, error }, ours, theirs) {
  const images = jointly(ours, k, theirs, l);
  const two = [tiles(ours, k, images), tiles(theirs, l, images)];
  const name = element("div", { class: "name" }, element("b", {}, title),
    element("span", {}, `adjusted ${withError(value, error)}`));
  return { row: element("div", { class: "row" }, name, ...two.map((each) => each.row)),
    painted: Promise.all(two.map((each) => each.painted)) };
}

/** Of probed runs each concept with itself. */
function sameNamesAt({ content, turned }, ours, theirs) {
  const { names, value, stderr } = content.concepts;
  const [, rows, columns] = value.shape;
  const place = turned ? state.column * columns + state.row : state.row * columns + state.column;
  return names.map((name, k) => ({ name, title: name, k: ours.names.indexOf(name), l: theirs.names.indexOf(name),
    value: value.data[k * rows * columns + place], error: stderr.data[k * rows * columns + place] }));
}

/** Of mined runs each concept of the pair's first network with its best partner. */
function partnersAt({ content, turned }, ours, theirs) {
  const { partner, value, stderr } = content.partners;
  const [, columns, most] = partner.shape;
  const first = (turned ? state.column * columns + state.row : state.row * columns + state.column) * most;
  const count = (turned ? theirs : ours).names.length;
  return Array.from({ length: count }, (_, k) => {
    const [mine, its] = turned ? [partner.data[first + k], k] : [k, partner.data[first + k]];
    return { name: ours.names[mine], title: `${ours.names[mine]} and ${theirs.names[its]}`, k: mine, l: its,
      value: value.data[first + k], error: stderr.data[first + k] };
  });
}

/** The images on which both concepts are strong. */
function jointly(ours, k, theirs, l, count = 4) {
  const strength = (part, concept, image) => part.strengths.data[image * part.strengths.shape[1] + concept];
  return start.images.map((_, image) => image)
    .map((image) => [Math.sqrt(strength(ours, k, image) * strength(theirs, l, image)) +
      0.1 * Math.max(strength(ours, k, image), strength(theirs, l, image)), image])
    .sort((x, y) => y[0] - x[0] || x[1] - y[1]).slice(0, count).map(([, image]) => image);
}
