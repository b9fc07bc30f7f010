"use strict";
/* Two networks: the matrix of their layers, by any measure. */

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const SHORT_TITLES = { jaccard: "Raw Jaccard", adjusted: "Adjusted",
  label_conditional: "Conditional", assignment: "Assigned", z: "z of chance" };
const shortTitle = ({ key, title }) => SHORT_TITLES[key] || title;

/** The pair as it is stored, and whether rows and columns are to be changed over. */
function stored(a = state.a, b = state.b) {
  const straight = start.pairs.find((pair) => pair.a === a && pair.b === b);
  if (straight) return { pair: straight, turned: false };
  return { pair: start.pairs.find((pair) => pair.a === b && pair.b === a), turned: true };
}

function choosePair(a, b) {
  Object.assign(state, { a, b, row: -1, column: -1 });
  for (const id of ["matrix", "matches"]) delete byId(id).dataset.shown;
  const names = start.networks.map((network) => network.name);
  fill("pair-a", names, a);
  fill("pair-b", names, b);
  return showPair();
}

/** All that is known of the chosen pair, and where it stands; null if another is chosen since. */
async function chosenPair(newest) {
  const { pair, turned } = stored(), { a, b } = state;
  const content = await load(`pair-${pair.a}-${pair.b}`);
  if (!newest()) return null;
  return { pair, turned, content, place: `${a}-${b}`, a: start.networks[a], b: start.networks[b] };
}

async function showPair() {
  const newest = turn("pair"), shown = await chosenPair(newest);
  if (!shown) return;
  const measures = measuresOf(shown.content);
  if (!measures.some((each) => each.key === state.measure)) state.measure = start.similarity;
  showMeasures(measures);
  if (state.row < 0) [state.row, state.column] = firstCell(shown);
  sayPair(shown);
  const matrix = drawMatrix(shown, measures.find((each) => each.key === state.measure));
  if (window.Plotly) await matrix; // else all that needs no Plotly comes before it
  if (!newest()) return;
  showMultiples(shown);
  await Promise.all([choose(state.row, state.column), matrix]);
  if (newest()) await drawCurves(shown);
}

function measuresOf(content) {
  const found = start.measures.filter(({ key }) => key in content.measures)
    .map((each) => ({ ...each, values: content.measures[each.key].value }));
  const main = content.measures[start.similarity];
  if (main.z) found.splice(Math.min(3, found.length), 0, { key: "z", title: "z of chance", values: main.z });
  return found;
}

function showMeasures(measures) {
  byId("measures").replaceChildren(element("legend", {}, "Shown"), ...measures.map((each) =>
    element("button", { type: "button", "data-measure": each.key,
      "aria-pressed": each.key === state.measure,
      onclick: () => { state.measure = each.key; changeMeasure(each.key); } }, shortTitle(each))));
}

/** Another measure of the same pair: the matrix alone changes. */
async function changeMeasure(key) {
  for (const button of byId("measures").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.dataset.measure === key);
  }
  const shown = await chosenPair(turn("measure"));
  if (shown) await drawMatrix(shown, measuresOf(shown.content).find((each) => each.key === key));
}

/** The layers that are most alike; of a network with itself, two in its middle. */
function firstCell({ pair, turned, a }) {
  const { row, column } = pair.layers || { row: -1 };
  if (row >= 0) return turned ? [column, row] : [row, column];
  const middle = Math.floor((a.layers.length - 1) / 2);
  return [middle, pair.a === pair.b ? Math.min(middle + 1, a.layers.length - 1) : 0];
}

function sayPair({ pair, a, b }) {
  const lead = byId("pair-lead");
  if (!pair.numbers) {
    lead.textContent = `Layers of ${a.name} with each other.`;
    return;
  }
  const sentences = [allInAll(pair)];
  if (pair.layers) sentences.unshift(mostAlike(pair));
  if (pair.concepts) sentences.splice(1, 0, leastAlike(pair));
  lead.replaceChildren(...sentences.flatMap((text) => [text, " "]));
}

function allInAll({ numbers, undefined: why }) {
  const { similarity, depth_gap: gap, share_of_ceiling: share } = numbers;
  if (!known(similarity.value)) return `How alike they are all in all is not defined: ${why}.`;
  const parts = [`Layers and their best matches in the other network have a mean ` +
    `${titleOf(start.similarity)} of ${withError(similarity.value, similarity.stderr)} above chance` +
    (known(similarity.low) ? ` (${intervalInWords(similarity)})` : "")];
  if (share && known(share.value)) parts.push(`${Math.round(100 * share.value)} % of the ceiling`);
  if (known(similarity.z_repaired)) parts.push(chanceInWords(similarity.z_repaired));
  if (known(similarity.random)) parts.push(`random twins: ${say(similarity.random)}`);
  if (gap && known(gap.value)) {
    parts.push(`best matches lie ${say(gap.value)} of depth apart` +
      (known(gap.repaired) ? `, those of re-paired images ${say(gap.repaired)}` : ""));
  }
  return `${parts.join("; ")}.`;
}

function mostAlike(pair) {
  const { row, column, value, stderr, of } = pair.layers;
  const [a, b] = [start.networks[pair.a], start.networks[pair.b]];
  return `Most alike are ${a.layers[row].name} of ${a.name} and ${b.layers[column].name} of ` +
    `${b.name}: ${withError(value, stderr)}${chanceBeside(pair.layers)}, ${chosenOf("highest", of, "cell")}.`;
}

/** What chance gives of a cell: of what is shown, or of the raw index where that is 0. */
function chanceBeside({ raw, chance, raw_chance: rawChance }) {
  if (!start.without_chance) return known(chance) ? ` (re-paired images give ${say(chance)})` : "";
  return known(raw) && known(rawChance) ? ` (raw ${say(raw)}, by chance ${say(rawChance)})` : "";
}

function leastAlike({ concepts: { least, next, of, at } }) {
  const value = `${least.name}: ${withError(least.value, least.stderr, 2)}`;
  const index = start.similarity === "adjusted" ? "" : " (adjusted Jaccard index)";
  if (!next) return `There is only one concept to tell apart, ${value}${index}.`;
  return `The concept that differs most is ${value}${index}${at ? ` ${at}` : ", over best matches of layers"}` +
    `, ${chosenOf("lowest", of, "concept")}; next is ${next.name}, ${say(next.value, 2)}.`;
}

/** All that is known of a cell, in lines; what the matrix shows comes first. */
function numbersOf({ content, turned }, row, column, first = start.similarity) {
  const { measures } = content;
  const at = (array) => {
    if (!array) return NaN;
    const columns = array.shape[1];
    return array.data[turned ? column * columns + row : row * columns + column];
  };
  const main = measures[start.similarity], raw = measures.jaccard;
  const line = (key) => `${key === "jaccard" ? "raw Jaccard index" : titleOf(key)}: ` +
    withError(at(measures[key].value), at(measures[key].stderr)) +
    (key === "jaccard" && known(at(raw.chance)) ? `, by chance ${say(at(raw.chance))}` : "");
  const keys = [...new Set([first, start.similarity, "adjusted", "jaccard"])];
  const lines = keys.filter((key) => key in measures).map(line);
  const leading = measures.adjusted && measures.adjusted.ceiling ? measures.adjusted : main;
  if (leading.ceiling) {
    lines.push(`share of ceiling: ${say(at(leading.value) / at(leading.ceiling), 2)}`);
  }
  if (main.z) lines.splice(first === "z" ? 0 : lines.length, 0, `z of chance: ${say(at(main.z), 1)}`);
  return lines.map((each) => (each.startsWith("z ") ? each : capital(each)));
}

const layerInWords = (network, k) => {
  const layer = network.layers[k];
  return `${layer.name} of ${network.name}, ${layer.trunk ? `depth ${layer.depth.toFixed(2)}` : "a branch"}`;
};

async function drawMatrix(shown, of) {
  const { a, b, turned } = shown, cells = matrixOf(of.values, turned);
  const hover = cells.map((row, i) => row.map((_, j) =>
    [`<b>${plain(layerInWords(a, i))}</b>`, `<b>${plain(layerInWords(b, j))}</b>`,
      ...factsOf(shown, i, j, of.key).map(plain)].join("<br>")));
  if (!window.Plotly) sketch(cells, of.key);
  const plot = await draw("matrix", () => matrixPlot(shown, of, cells, hover));
  plot.querySelector(".sketch")?.remove();
  plot.dataset.shown = `${shown.place}-${of.key}`;
  if (plot.dataset.ready) return;
  plot.dataset.ready = "yes";
  plot.on("plotly_click", ({ points: [point] }) => {
    choose(point.y, point.x);
    showImages();
  });
  plot.addEventListener("keydown", move);
}

/** Side of a cell on the screen. */
const sideOf = (cells) => Math.max(11, Math.min(56, 760 / Math.max(cells.length, cells[0].length)));

/** The cells alone, where they will be when Plotly is there. */
function sketch(cells, key) {
  const canvas = element("canvas", { class: "sketch", role: "img", "aria-label": "The matrix of layers" });
  paintCells(canvas, cells, endOf(cells, key));
  Object.assign(canvas.style, { width: `${sideOf(cells) * cells[0].length}px`,
    height: `${sideOf(cells) * cells.length}px` });
  byId("matrix").replaceChildren(canvas);
}

function matrixPlot({ a, b }, of, cells, hover) {
  const rows = labelsOf(a), columns = labelsOf(b);
  const long = Math.max(rows.length, columns.length), cell = sideOf(cells);
  const trace = { type: "heatmap", z: cells, x: columns.map((_, k) => k), y: rows.map((_, k) => k),
    colorscale: of.key === "z" ? "Cividis" : "Viridis", zmin: 0, zmax: endOf(cells, of.key),
    xgap: long > 30 ? 0 : 1, ygap: long > 30 ? 0 : 1, hoverongaps: true, customdata: hover,
    colorbar: { thickness: 12, outlinewidth: 0, len: 0.9, title: { text: shortTitle(of), side: "right" } },
    hovertemplate: "%{customdata}<extra></extra>" };
  if (long <= 14) {
    trace.text = cells.map((row) => row.map((value) => (known(value)
      ? value.toFixed(of.key === "z" ? 0 : 2) : "")));
    Object.assign(trace, { texttemplate: "%{text}", textfont: { size: 11 } });
  }
  const axis = (names, network) => ({ ...named(names), tickfont: { size: cell < 15 ? 9 : 12 },
    title: { text: network.name, standoff: 14 } });
  return { traces: [trace], images: hatch(cells), shapes: [frame()],
    height: Math.max(320, cell * rows.length + 180),
    width: Math.max(480, cell * columns.length + 330),
    margin: { l: 160, r: 20, t: 34, b: 130 },
    xaxis: { ...axis(columns, b), tickangle: -90 },
    yaxis: { ...axis(rows, a), range: [rows.length - 0.5, -0.5] } };
}

/** Around the chosen cell. */
function frame() {
  return { type: "rect", x0: state.column - 0.5, x1: state.column + 0.5, y0: state.row - 0.5,
    y1: state.row + 0.5, line: { color: "#e0245e", width: 3 } };
}

/** Go to the images; arrow keys go on choosing cells, whose images are shown in their place. */
function showImages() {
  byId("matrix").focus({ preventScroll: true });
  byId("cell").scrollIntoView();
}

function move(event) {
  if (event.key === "Enter") return showImages();
  const step = STEPS[event.key];
  if (!step) return undefined;
  event.preventDefault();
  const within = (k, network) => Math.min(Math.max(k, 0), start.networks[network].layers.length - 1);
  return choose(within(state.row + step[0], state.a), within(state.column + step[1], state.b));
}
