"use strict";
/* The best match of each layer: how alike it is, and how deep it lies. */

async function drawCurves({ content, a, b }) {
  const { matches, ceilings } = content;
  for (const id of ["curves-part", "matches-part"]) show(id, matches.length > 0);
  if (!matches.length) return;
  byId("curve-title").textContent =
    `${capital(titleOf(start.similarity))} of each layer with its best match`;
  byId("depth-title").textContent = "Where the best match of each layer lies";
  listMatches(matches, a, b);
  const both = [a.name, b.name].map((name, k) => ({ name, second: k === 1,
    rows: matches.filter((row) => row.network === name),
    most: ceilings.filter((row) => row.network === name) }));
  const legend = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 };
  const xaxis = { title: { text: "relative depth of a layer" }, range: [-0.03, 1.03] };
  const shared = { height: 430, legend, xaxis, margin: { l: 60, r: 20, t: 14, b: 132 } };
  await draw("curve", () => ({ ...shared, traces: [
    ...both.flatMap((own) => curve(own, "value", "low", "high")), ...both.map(ceilingCurve)],
  yaxis: { title: { text: titleOf(start.similarity) }, rangemode: "tozero" } }));
  await draw("depth", () => ({ ...shared, traces: [
    { x: [0, 1], y: [0, 1], mode: "lines", name: "same depth", hoverinfo: "skip",
      line: { dash: "dash", color: colour("--soft"), width: 1 } },
    ...both.flatMap((own) => curve(own, "match_depth", "match_depth_low", "match_depth_high"))],
  yaxis: { title: { text: "relative depth of its best match" }, range: [-0.03, 1.03] } }));
}

/** A name of which two find room beside each other. */
const inLegend = (name) => shortened(name, 130);

/** A line with its band of 95 %. */
function curve({ name, rows, second }, value, low, high) {
  const tinted = colour(second ? "--second" : "--accent");
  const depths = rows.map((row) => row.depth);
  return [{ x: [...depths, ...[...depths].reverse()], fill: "toself", fillcolor: `${tinted}33`,
    y: [...rows.map((row) => row[high]), ...rows.map((row) => row[low]).reverse()],
    line: { width: 0 }, hoverinfo: "skip", showlegend: false, mode: "lines" },
  { x: depths, y: rows.map((row) => row[value]), name: `layers of ${plain(inLegend(name))}`,
    mode: "lines+markers", line: { color: tinted, width: 2, dash: second ? "dash" : "solid" },
    marker: { size: 7, symbol: second ? "square" : "circle" },
    customdata: rows.map((row) => `<b>${plain(row.layer)}</b> of ${plain(name)} ${say(row.depth, 2)}<br>` +
      `best match <b>${plain(row.match)}</b> ${say(row.match_depth, 2)}<br>` +
      `${say(row.value)} (95 %: ${say(row.low)} to ${say(row.high)})`),
    hovertemplate: "%{customdata}<extra></extra>" }];
}

function ceilingCurve({ name, most, second }) {
  return { x: most.map((row) => row.depth), y: most.map((row) => row.value), mode: "lines",
    name: `ceiling of ${plain(inLegend(name))}`, visible: most.length > 0, hoverinfo: "skip",
    line: { dash: "dot", width: 1.5, color: colour(second ? "--second" : "--accent") } };
}

function listMatches(matches, a, b) {
  const order = (row) => (row.network === a.name ? 0 : 1);
  const rows = [...matches].sort((x, y) => order(x) - order(y));
  const cell = (text) => element("td", {}, text);
  byId("best-matches").replaceChildren(...rows.map((row) => element("tr", {},
    cell(`${row.layer} of ${row.network}`), cell(say(row.depth, 2)),
    cell(`${row.match} of ${row.network === a.name ? b.name : a.name}`),
    cell(say(row.match_depth, 2)), cell(say(row.value)),
    cell(`${say(row.low)} to ${say(row.high)}`))));
}
