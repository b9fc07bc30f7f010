"use strict";
/* One network: scores, flow, and where its concepts fire. */

async function showNetwork() {
  const network = start.networks[state.one], newest = turn("network");
  const content = await load(`network-${state.one}`).catch((problem) => {
    if (newest()) empty("network");
    throw problem;
  });
  if (!newest()) return;
  if (state.layer < 0) state.layer = firstLayer(network, content.scores);
  show("scores-part", Boolean(content.scores));
  show("flow-part", Boolean(content.flow));
  if (content.scores) await drawScores(content.scores, network);
  if (content.flow && newest()) await drawFlow(content.flow);
  if (!newest()) return;
  fill("one-layer", labelsOf(network, Infinity), state.layer);
  await showGallery(network, content, newest);
}

/** The layer that shows concepts best; one in the middle where there are no labels. */
function firstLayer(network, scores) {
  if (!scores) return Math.floor(network.layers.length / 2);
  // a layer without any score has no mean, with which nothing compares
  const means = matrixOf(scores.value).map((row) => row.filter(known))
    .map((row) => row.reduce((sum, value) => sum + value, 0) / row.length);
  return means.reduce((best, mean, k) => (known(mean) && !(mean <= means[best]) ? k : best), 0);
}

function drawScores({ concepts, value }, network) {
  const cells = matrixOf(value), rows = labelsOf(network), many = rows.length > 30;
  const columns = concepts.map((name) => shortened(name, LONGEST));
  const cell = Math.min(56, 900 / columns.length);
  const said = cells.map((row, i) => row.map((score, j) => [
    `<b>${plain(concepts[j])}</b>`, `<b>${plain(network.layers[i].name)}</b>, ` +
    `${depthOf(network.layers[i])}: ${say(score)}`].join("<br>")));
  return draw("scores", () => ({ traces: [{ type: "heatmap", z: cells, x: columns.map((_, k) => k),
    y: rows.map((_, k) => k), colorscale: "Viridis", zmin: 0, zmax: endOf(cells, ""), xgap: 1, ygap: 1,
    hoverongaps: true, customdata: said, hovertemplate: "%{customdata}<extra></extra>",
    colorbar: { thickness: 12, outlinewidth: 0, title: { text: "Jaccard index", side: "right" } },
    texttemplate: cells.length * columns.length <= 400 ? "%{z:.2f}" : "", textfont: { size: 11 } }],
  images: hatch(cells), height: Math.max(190, (many ? 14 : 26) * rows.length) + 74,
  width: Math.max(200, cell * columns.length) + 200, margin: { l: 80, r: 20, t: 34, b: 40 },
  xaxis: { ...named(columns), tickangle: -40 },
  yaxis: { ...named(rows), range: [rows.length - 0.5, -0.5], tickfont: { size: many ? 9 : FONT },
    title: { text: "layer, relative depth", standoff: 12 } } }));
}

function drawFlow(flow) {
  const { distance, half_distance: half } = flow.numbers;
  const told = (what, number) => (known(number.value)
    ? `${what} ${say(number.value, 2)} deeper (${intervalInWords(number, 2)}).` : "");
  byId("flow-lead").textContent = ["Each point is a pair of layers of this network: how much less alike " +
    "they are than each is with itself, against how far apart they lie. Neither distance can be less " +
    "than the layers lie apart (backbone.layers=blocks sees finer).",
  told("On average the next layer that means something else lies", distance),
  told("Half of the agreement is lost", half)].filter(Boolean).join(" ");
  const lines = [[distance, "solid", "something else"], [half, "dash", "half is lost (dashed)"]]
    .filter(([number]) => known(number.value));
  return draw("flow", () => ({ traces: [{ x: flow.distance, y: flow.loss, mode: "markers",
    marker: { color: colour("--accent"), size: flow.loss.length > 400 ? 5 : 8, opacity: 0.6 },
    hovertemplate: "%{x:.2f} apart: %{y:.3f} less alike<extra></extra>" }], height: 360,
  shapes: lines.map(([number, dash]) => ({ type: "line", x0: number.value, x1: number.value, yref: "paper",
    y0: 0, y1: 1, opacity: dash === "solid" ? 0.45 : 1,
    line: { color: colour("--second"), dash, width: dash === "solid" ? 4 : 1.5 } })),
  annotations: lines.map(([number, , text], k) => ({ x: number.value, y: 1, yref: "paper", text,
    showarrow: false, xanchor: "left", xshift: 4, yanchor: "top", yshift: -18 * k, font: { color: colour("--second") } })),
  xaxis: { title: { text: "difference of relative depth" } },
  yaxis: { title: { text: "loss of agreement" }, rangemode: "tozero" } }));
}

async function showGallery(network, content, newest) {
  const layer = network.layers[state.layer];
  for (const id of ["gallery-part", "one-layer-label"]) show(id, start.images.length > 0);
  if (!start.images.length) return;
  byId("gallery-title").textContent = `Where the concepts of ${layer.name} fire`;
  const part = await load(`masks-${state.one}-${state.layer}`).catch((problem) => {
    if (newest()) byId("gallery").replaceChildren();
    throw problem;
  });
  if (!newest()) return;
  const rows = (content.concepts || []).filter((row) => row.layer === layer.name);
  const about = new Map(rows.map((row) => [row.concept, row]));
  byId("gallery").replaceChildren(...part.names.map((name, k) => element("div", { class: "row single" },
    element("div", { class: "name" }, element("b", {}, name),
      ...aboutMined(about.get(name)).map((text) => element("span", {}, text))),
    tiles(part, k, jointly(part, k, part, k, 6)).row)));
}

function aboutMined(row) {
  if (!row) return [];
  return [row.label ? `overlaps ${row.label}` : "",
    known(row.area) ? `fires on ${(100 * row.area).toFixed(1)} % of all images' area` : "",
    known(row.reproducibility) ? `reproducible ${say(row.reproducibility, 2)}` : ""].filter(Boolean);
}
