"use strict";
/* What all plots share: Plotly, which comes late, colours, scales, and drawing again. */

let plotly = null; // the promise of its script, asked for once the first picture is there
const drawn = new Map(); // id -> what draws it again, for another theme

const dark = () => document.documentElement.dataset.theme === "dark";
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Names as Plotly takes them, which reads some markup in its labels. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;")
  .replace(/\$/g, "&#36;"); // between two of which it looks for mathematics

/** An axis of names at 0, 1, and so on: of names alone Plotly would take "2" and "10" for numbers. */
const named = (names) => ({ tickmode: "array", tickvals: names.map((_, k) => k),
  ticktext: names.map(plain), showgrid: false, zeroline: false, range: [-0.5, names.length - 0.5] });

/** Nothing leaves the page: unless told otherwise, Plotly 6 offers to upload a chart. */
const PLOT_SETTINGS = { displaylogo: false, responsive: true, plotlyServerURL: "",
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "svg" } };

/** Draw a plot now, and again whenever the theme changes. */
function draw(id, make) {
  return drawnBy(id, async () => {
    plotly = plotly || script("plotly.min.js");
    await plotly;
    const { traces, ...rest } = make();
    await Plotly.react(byId(id), traces.map(openBelow).map(foldedNotes), layout(rest), PLOT_SETTINGS);
    // on paper there is no scrolling: what is wider than a sheet is drawn smaller
    byId(id).style.setProperty("--on-paper", Math.min(1, 700 / byId(id)._fullLayout.width));
    return byId(id);
  });
}

/** Says at the bar of colours that less than its lower end looks like that. */
function openBelow(trace) {
  if (trace.type !== "heatmap" || !anyBelow(trace.z)) return trace;
  const most = trace.zmax, rough = most / 5, size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((each) => each * size >= rough * 0.999);
  const places = Array.from({ length: Math.floor(most / step + 1.001) }, (_, k) => k * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step * 1.001)));
  const ticks = { tickmode: "array", tickvals: places,
    ticktext: places.map((value, k) => (k ? value.toFixed(digits) : "≤ 0")) };
  return { ...trace, colorbar: { ...trace.colorbar, ...ticks } };
}

/** What is said at the pointer in lines that find room beside it. */
function foldedNotes(trace) {
  if (!trace.customdata) return trace;
  const all = (said) => (Array.isArray(said) ? said.map(all)
    : said.split("<br>").map((line) => foldedLine(line)).join("<br>"));
  return { ...trace, customdata: all(trace.customdata) };
}

/** Breaks in text made by `plain`, whose letters may be entities; best after the part of a name. */
function foldedLine(markup, enough = 36, most = 52) {
  if (markup.length <= most) return markup;
  let count = 0;
  return markup.replace(/<[^>]*>|&[#\w]+;|./gsu, (piece) => {
    if (piece.startsWith("<")) return piece;
    count += 1;
    if (count < enough || !(count >= most || " ._/:-".includes(piece))) return piece;
    count = 0;
    return `${piece}<br>`;
  });
}

const anyBelow = (cells) => cells.some((row) => row.some((value) => known(value) && value < 0));

/** Draw by a function, now and again. */
function drawnBy(id, paint) {
  drawn.set(id, paint);
  return paint();
}

async function redraw() {
  for (const paint of drawn.values()) await paint();
}

function layout(plot) {
  const { xaxis = {}, yaxis = {}, ...rest } = roomy(plot);
  const ink = colour("--ink"), line = colour("--line");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, DejaVu Sans, sans-serif", size: 13 },
    margin: { l: 60, r: 20, t: 34, b: 50 },
    hoverlabel: { align: "left", bgcolor: colour("--card"), bordercolor: colour("--soft"),
      font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: ink },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest };
}

/** The same plot as much larger as its names need, which would else be taken from what it shows;
    titles of its axes may be names, too. */
function roomy(plot) {
  if (!plot.xaxis?.ticktext || !plot.yaxis?.ticktext) return plot;
  const { xaxis, yaxis, margin, height, width } = plot;
  const need = ({ ticktext, tickfont, tickangle, title }, across) => {
    const long = Math.max(...ticktext.map((text) => widthOf(text, tickfont?.size || FONT)));
    const lean = across && tickangle ? Math.sin(-tickangle / 180 * Math.PI) : 1;
    return Math.ceil(long * lean + (title ? 44 : 24));
  };
  const [l, b] = [Math.max(margin.l, need(yaxis)), Math.max(margin.b, need(xaxis, true))];
  const titled = (axis, most) => (axis.title // in larger letters than names
    ? { ...axis, title: { ...axis.title, text: plain(shortened(axis.title.text, Math.max(0.75 * most, 90))) } } : axis);
  return { ...plot, height: height + b - margin.b, width: width + l - margin.l,
    margin: { ...margin, l, b }, xaxis: titled(xaxis, width - margin.l - 110),
    yaxis: titled(yaxis, height - margin.b - margin.t) };
}

/** Lines behind a matrix, seen where a cell has no value; of one without such cells none. */
function hatch(cells) {
  if (cells.flat().every(known)) return [];
  const tile = `<svg xmlns='http://www.w3.org/2000/svg' width='400' height='400'><defs>` +
    `<pattern id='h' width='8' height='8' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'>` +
    `<line x1='0' y1='0' x2='0' y2='8' stroke='${colour("--hatch")}' stroke-width='3'/></pattern></defs>` +
    `<rect width='400' height='400' fill='url(#h)'/></svg>`;
  return [{ source: `data:image/svg+xml,${encodeURIComponent(tile)}`, xref: "x domain",
    yref: "y domain", x: 0, y: 1, sizex: 1, sizey: 1, sizing: "stretch", layer: "below" }];
}

/** The upper end of a scale: 1, or a smaller round number where all values are below 0.5. */
function endOf(cells, key) {
  const most = cells.flat().filter(known).reduce((x, y) => Math.max(x, y), -Infinity);
  if (key === "z") return Math.max(5, most);
  return most >= 0.5 || most === -Infinity ? 1 : Math.max(0.1, Math.ceil(most * 10) / 10);
}

const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

/** A colour of the scale, as red, green and blue. */
function tint(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const k = Math.min(Math.floor(place), VIRIDIS.length - 2), part = place - k;
  return VIRIDIS[k].map((value, c) => Math.round(value + part * (VIRIDIS[k + 1][c] - value)));
}

/** A matrix without axes. */
function paintCells(canvas, cells, most) {
  const rows = cells.length, columns = cells[0].length;
  const scale = Math.max(6, Math.ceil(176 / Math.max(rows, columns)));
  [canvas.width, canvas.height] = [columns * scale, rows * scale];
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  const context = canvas.getContext("2d");
  context.strokeStyle = colour("--hatch");
  context.lineWidth = 2;
  context.beginPath(); // lines everywhere, that are covered where there is a value
  for (let x = 0; x < canvas.width + canvas.height; x += 9) {
    context.moveTo(x, 0);
    context.lineTo(0, x);
  }
  context.stroke();
  cells.forEach((row, i) => row.forEach((value, j) => {
    if (!known(value)) return;
    context.fillStyle = `rgb(${tint(value / most)})`;
    context.fillRect(j * scale, i * scale, scale, scale);
  }));
}
