"use strict";
/* The page of a comparison. Parts are scripts that call report.receive, loaded when they are seen. */
const report = (() => {
  const waiting = new Map(); // name -> {promise, resolve}
  const byId = (id) => document.getElementById(id);
  const state = { a: 0, b: 0, measure: "", row: -1, column: -1, one: 0, layer: 0 };
  let start = null;

  const turns = new Map();

  /** Whether nothing newer was asked of a section since; what is late must not be shown. */
  function turn(section) {
    const own = (turns.get(section) || 0) + 1;
    turns.set(section, own);
    return () => turns.get(section) === own;
  }

  // ---- parts -------------------------------------------------------------------------------

  function entry(name) {
    if (!waiting.has(name)) {
      const one = {};
      one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
      waiting.set(name, one);
    }
    return waiting.get(name);
  }

  async function receive(name, content) {
    entry(name).resolve(await unpacked(content));
  }

  function load(name) {
    const one = entry(name);
    if (!one.asked) {
      one.asked = true;
      const script = document.createElement("script");
      script.src = `parts/${name}.js`;
      script.onerror = () => one.reject(new Error(`parts/${name}.js is missing`));
      document.head.append(script);
    }
    return one.promise;
  }

  async function unpacked(value) {
    if (Array.isArray(value)) {
      return value.some((each) => each && typeof each === "object")
        ? Promise.all(value.map(unpacked)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    if ("packed" in value) return array(value);
    const found = {};
    for (const [key, each] of Object.entries(value)) found[key] = await unpacked(each);
    return found;
  }

  async function array({ packed, type, shape }) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    if (type === "float32") return { shape, data: new Float32Array(buffer) };
    const given = new Uint8Array(buffer);
    return { shape, data: type === "rounded" ? fromPlanes(given) : given };
  }

  /** Ten-thousandths, all lower bytes before all upper ones; the least is NaN. */
  function fromPlanes(bytes) {
    const count = bytes.length / 2, found = new Float32Array(count);
    for (let k = 0; k < count; k++) {
      const whole = ((bytes[count + k] << 24) >> 16) | bytes[k];
      found[k] = whole === -32768 ? NaN : whole / 10000;
    }
    return found;
  }

  // ---- small things ------------------------------------------------------------------------

  /** An element with text, never markup: names come from a user's files. */
  function element(tag, attributes = {}, ...children) {
    const found = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
      else found.setAttribute(key, value);
    }
    found.append(...children);
    return found;
  }

  const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
  const say = (value, digits = 3) => (known(value) ? value.toFixed(digits) : "not defined");
  const withError = (value, error, digits = 3) =>
    known(error) ? `${say(value, digits)} ± ${say(error, digits)}` : say(value, digits);
  const titleOf = (key) => (start.measures.find((each) => each.key === key) || {}).title || key;
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  /** Names of layers as Plotly takes them, which reads some markup in its labels. */
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const dark = () => document.documentElement.dataset.theme === "dark";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function matrixOf({ data, shape: [rows, columns] }, transposed = false) {
    const found = [];
    for (let i = 0; i < (transposed ? columns : rows); i++) {
      const row = [];
      for (let j = 0; j < (transposed ? rows : columns); j++) {
        const value = transposed ? data[j * columns + i] : data[i * columns + j];
        row.push(Number.isNaN(value) ? null : value);
      }
      found.push(row);
    }
    return found;
  }

  function hatch() {
    const line = colour("--hatch");
    const tile = `<svg xmlns='http://www.w3.org/2000/svg' width='400' height='400'><defs>` +
      `<pattern id='h' width='8' height='8' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'>` +
      `<line x1='0' y1='0' x2='0' y2='8' stroke='${line}' stroke-width='1.5'/></pattern></defs>` +
      `<rect width='400' height='400' fill='url(#h)'/></svg>`;
    return { source: `data:image/svg+xml,${encodeURIComponent(tile)}`, xref: "x domain",
      yref: "y domain", x: 0, y: 1, sizex: 1, sizey: 1, sizing: "stretch", layer: "below" };
  }

  function layout(extra) {
    const ink = colour("--ink"), line = colour("--line");
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
    const { xaxis = {}, yaxis = {}, ...rest } = extra;
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: "system-ui, DejaVu Sans, sans-serif", size: 13 },
      margin: { l: 60, r: 20, t: 34, b: 50 }, hoverlabel: { align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: ink },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest };
  }

  const settings = { displaylogo: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" } };

  const drawn = new Map(); // id -> function that draws it again, for another theme

  async function draw(id, make) {
    drawn.set(id, make);
    const { traces, ...rest } = make();
    await Plotly.react(byId(id), traces, layout(rest), settings);
    return byId(id);
  }

  // ---- findings ----------------------------------------------------------------------------

  function showFindings() {
    byId("title").textContent = start.title;
    document.title = `${start.title}: cavalcade`;
    byId("about").textContent = `${start.test_images} test images of ${start.data} in ` +
      `${start.blocks} blocks; concepts by ${start.method}`;
    const sentences = start.sentence.split(/(?<=\.) (?=Best matches)/);
    byId("sentences").replaceChildren(...sentences.map((text) => element("p", {}, text)));
    const cards = [
      ["similarity", `Best matches of layers: ${titleOf(start.similarity)} above chance`, 3,
        "0 is what re-paired images give, 1 is equal"],
      ["depth_gap", "Best matches lie apart by this share of depth", 3, ""],
      ["rank_correlation", "Rank correlation of depths", 2, ""],
    ];
    const shown = [];
    for (const [key, title, digits, note] of cards) {
      const found = start.findings[key];
      if (!found) continue;
      const lines = [`95 %: ${say(found.low, digits)} to ${say(found.high, digits)}`];
      if (key === "similarity") lines.push(note);
      else lines.push(`re-paired images: ${say(found.repaired, digits)}`);
      lines.push(known(found.random) ? `random twins: ${say(found.random, digits)}`
        : "random twins: none were compared");
      shown.push(element("div", { class: "card" }, element("h3", {}, title),
        element("div", { class: "large" }, say(found.value, digits)),
        ...lines.map((text) => element("p", {}, text))));
    }
    byId("numbers").replaceChildren(...shown);
  }

  // ---- networks ----------------------------------------------------------------------------

  function showNetworks() {
    if (start.networks.length < 2) return byId("networks").classList.add("hidden");
    byId("networks-lead").textContent = `Similarity of each pair: mean ${titleOf(start.similarity)} ` +
      "of layers and their best matches, chance removed. A click shows a pair." +
      (start.tree ? " Percentages: the share of resamples of blocks with this cluster." : "");
    const order = start.tree ? start.tree.order : start.networks.map((_, k) => k);
    const count = order.length, cell = Math.max(14, Math.min(70, 560 / count));
    return draw("networks-plot", () => {
      const names = order.map((k) => plain(start.networks[k].name));
      const values = matrixOf(start.matrix.values), errors = matrixOf(start.matrix.stderr);
      const z = order.map((i) => order.map((j) => values[i][j]));
      const text = order.map((i) => order.map((j) => (known(values[i][j])
        ? `${say(values[i][j], 2)}<br>±${say(errors[i][j])}` : "")));
      const heat = { type: "heatmap", z, x: names, y: names, colorscale: "Viridis", zmin: 0,
        zmax: top(z, {}), xgap: 1, ygap: 1, hoverongaps: false,
        colorbar: { thickness: 12, outlinewidth: 0 },
        customdata: order.map((i) => order.map((j) => withError(values[i][j], errors[i][j]))),
        hovertemplate: "%{y} and %{x}<br>%{customdata}<extra></extra>" };
      if (count <= 12) Object.assign(heat, { text, texttemplate: "%{text}", textfont: { size: 11 } });
      const made = { traces: [heat], height: cell * count + 190,
        width: (start.tree ? 2.4 : 1) * cell * count + 420,
        xaxis: { tickangle: -40, showgrid: false, constrain: "domain" },
        yaxis: { autorange: "reversed", showgrid: false } };
      if (start.tree) addTree(made, count);
      return made;
    }).then((plot) => plot.on("plotly_click", ({ points: [point] }) => {
      if (point.data.type !== "heatmap") return;
      const [i, j] = point.pointIndex || point.pointNumber;
      choosePair(order[i], order[j]);
      byId("pair").scrollIntoView();
    }));
  }

  function addTree(made, count) {
    const { across, heights, support } = start.tree;
    across.forEach((xs, k) => made.traces.push({ x: heights[k], y: xs.map((x) => (x - 5) / 10),
      xaxis: "x2", yaxis: "y2", mode: "lines", line: { color: colour("--accent"), width: 1.6 },
      hoverinfo: "skip", showlegend: false }));
    made.traces.push({ x: heights.map((h) => h[1]), xaxis: "x2", yaxis: "y2", mode: "text",
      y: across.map((xs) => (xs[1] + xs[2]) / 20 - 0.5), showlegend: false, hoverinfo: "skip",
      text: support.map((share) => `${Math.round(100 * share)} %`), textposition: "middle right",
      textfont: { size: 10, color: colour("--soft") } });
    made.xaxis.domain = [0.42, 1];
    made.xaxis2 = { domain: [0, 0.2], autorange: "reversed", title: { text: "1 − similarity" },
      gridcolor: colour("--line"), zeroline: false };
    made.yaxis2 = { range: [count - 0.5, -0.5], showticklabels: false, showgrid: false,
      zeroline: false, anchor: "x2" };
    made.yaxis.anchor = "x";
  }

  // ---- a pair ------------------------------------------------------------------------------

  /** The pair as it is stored, and whether rows and columns are to be changed over. */
  function stored(a = state.a, b = state.b) {
    const straight = start.pairs.find((pair) => pair.a === a && pair.b === b);
    if (straight) return { pair: straight, turned: false };
    return { pair: start.pairs.find((pair) => pair.a === b && pair.b === a), turned: true };
  }

  function measuresOf(content) {
    const found = start.measures.filter(({ key }) => key in content.measures)
      .map(({ key, title }) => ({ key, title, values: content.measures[key].value,
        errors: content.measures[key].stderr, unit: key !== "z" }));
    const main = content.measures[start.similarity];
    if (main && main.z) {
      found.splice(Math.min(3, found.length), 0, { key: "z", title: "z of chance", values: main.z });
    }
    return found;
  }

  async function showPair() {
    const { pair, turned } = stored(), newest = turn("pair");
    const content = await load(`pair-${pair.a}-${pair.b}`);
    if (!newest()) return;
    const measures = measuresOf(content);
    if (!measures.some((each) => each.key === state.measure)) state.measure = start.similarity;
    byId("measures").replaceChildren(element("legend", {}, "Shown"), ...measures.map((each) =>
      element("button", { type: "button", "data-measure": each.key,
        "aria-pressed": each.key === state.measure,
        onclick: () => { state.measure = each.key; showPair(); } }, shortTitle(each))));
    const of = measures.find((each) => each.key === state.measure);
    const a = start.networks[state.a], b = start.networks[state.b];
    if (state.row < 0 || state.row >= a.layers.length || state.column >= b.layers.length) {
      [state.row, state.column] = bestCell(content, turned);
    }
    sayPair(pair, a, b);
    await drawMatrix(content, of, a, b, turned);
    if (newest()) await drawCurves(content, a, b);
    if (!newest()) return;
    showMultiples(content, a, b, turned);
    await choose(state.row, state.column);
  }

  function shortTitle({ key, title }) {
    const short = { jaccard: "Raw Jaccard", adjusted: "Adjusted", label_conditional: "Conditional",
      assignment: "Assigned", z: "z of chance" };
    return short[key] || title;
  }

  function sayPair(pair, a, b) {
    const numbers = pair.numbers[start.similarity];
    if (!numbers) {
      byId("pair-lead").textContent = `Layers of ${a.name} with each other.`;
      return;
    }
    const { similarity, depth_gap: gap, share_of_ceiling: share } = numbers;
    const parts = [`Layers of ${a.name} and their best matches in ${b.name} have a mean ` +
      `${titleOf(start.similarity)} of ${withError(similarity.value, similarity.stderr)} above ` +
      `chance (95 %: ${say(similarity.low)} to ${say(similarity.high)})`];
    if (share) parts.push(`${Math.round(100 * share.value)} % of the ceiling`);
    if (known(similarity.z_repaired)) {
      parts.push(`${say(similarity.z_repaired, 1)} standard deviations from re-paired images`);
    }
    if (known(similarity.random)) parts.push(`random twins: ${say(similarity.random)}`);
    if (gap) parts.push(`best matches lie ${say(gap.value)} of depth apart, those of re-paired ` +
      `images ${say(gap.repaired)}`);
    byId("pair-lead").textContent = `${parts.join("; ")}.`;
  }

  const labels = (network) => network.layers.map((layer) =>
    `${plain(layer.name)}  ${layer.trunk ? layer.depth.toFixed(2) : "branch"}`);

  function bestCell(content, turned) {
    const cells = matrixOf(content.measures[start.similarity].value, turned);
    let best = [0, 0];
    const middle = Math.floor(cells.length / 2);
    cells[middle].forEach((value, j) => {
      const most = cells[middle][best[1]];
      if (known(value) && (best[0] !== middle || !known(most) || value > most)) best = [middle, j];
    });
    return best;
  }

  /** The upper end of a scale: 1, or a smaller round number where all values are below 0.5. */
  function top(cells, of) {
    const values = cells.flat().filter(known);
    const most = values.length ? Math.max(...values) : 1;
    if (of.key === "z") return Math.max(5, most);
    return most >= 0.5 ? 1 : Math.max(0.1, Math.ceil(most * 10) / 10);
  }

  async function drawMatrix(content, of, a, b, turned) {
    const cells = matrixOf(of.values, turned);
    const errors = of.errors ? matrixOf(of.errors, turned) : null;
    const rows = labels(a), columns = labels(b);
    const raw = content.measures.jaccard && matrixOf(content.measures.jaccard.value, turned);
    const main = content.measures[start.similarity];
    const adjusted = matrixOf(main.value, turned), spread = matrixOf(main.stderr, turned);
    const ceiling = main.ceiling ? matrixOf(main.ceiling, turned) : null;
    const hover = cells.map((row, i) => row.map((value, j) => {
      const lines = [`${capital(of.title)}: ${of.key === "z" ? say(value, 1)
        : withError(value, errors && errors[i][j])}`];
      if (of.key !== "jaccard" && raw) lines.push(`raw: ${say(raw[i][j])}`);
      if (of.key !== start.similarity) {
        lines.push(`${shortTitle({ key: start.similarity }).toLowerCase()}: ` +
          withError(adjusted[i][j], spread[i][j]));
      }
      if (ceiling && known(ceiling[i][j])) {
        lines.push(`share of ceiling: ${say(adjusted[i][j] / ceiling[i][j], 2)}`);
      }
      return `<b>${rows[i]}</b> of ${plain(a.name)}<br><b>${columns[j]}</b> of ${plain(b.name)}<br>` +
        lines.join("<br>");
    }));
    const long = Math.max(rows.length, columns.length);
    const cell = Math.max(11, Math.min(56, 760 / long));
    const numbers = Math.max(rows.length, columns.length) <= 14;
    const plot = await draw("matrix", () => {
      const trace = { type: "heatmap", z: cells, x: columns.map((_, k) => k), y: rows.map((_, k) => k),
        colorscale: of.key === "z" ? "Cividis" : "Viridis", zmin: 0, zmax: top(cells, of),
        xgap: 1, ygap: 1, hoverongaps: false, customdata: hover,
        colorbar: { thickness: 12, outlinewidth: 0, len: 0.9 },
        hovertemplate: "%{customdata}<extra></extra>" };
      if (numbers) {
        trace.text = cells.map((row) => row.map((value) => (known(value)
          ? value.toFixed(of.key === "z" ? 0 : 2) : "")));
        trace.texttemplate = "%{text}";
        trace.textfont = { size: 11 };
      }
      return { traces: [trace], height: Math.max(320, cell * rows.length + 180),
        width: Math.max(420, cell * columns.length + 330),
        images: [hatch()], shapes: [frame()],
        margin: { l: 160, r: 20, t: 34, b: 130 },
        xaxis: { tickmode: "array", tickvals: columns.map((_, k) => k), ticktext: columns,
          tickangle: -90, showgrid: false, zeroline: false, tickfont: { size: cell < 15 ? 9 : 12 },
          title: { text: plain(b.name), standoff: 14 }, range: [-0.5, columns.length - 0.5] },
        yaxis: { tickmode: "array", tickvals: rows.map((_, k) => k), ticktext: rows,
          showgrid: false, zeroline: false, tickfont: { size: cell < 15 ? 9 : 12 },
          title: { text: plain(a.name), standoff: 14 }, range: [rows.length - 0.5, -0.5] } };
    });
    if (!plot.dataset.ready) {
      plot.dataset.ready = "yes";
      plot.on("plotly_click", ({ points: [point] }) => {
        choose(point.y, point.x);
        byId("cell").scrollIntoView();
      });
      plot.addEventListener("keydown", move);
    }
  }

  /** Around the chosen cell. */
  function frame() {
    return { type: "rect", x0: state.column - 0.5, x1: state.column + 0.5, y0: state.row - 0.5,
      y1: state.row + 0.5, line: { color: dark() ? "#ffffff" : "#e0245e", width: 3 } };
  }

  function move(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Enter") return byId("cell").scrollIntoView();
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const rows = start.networks[state.a].layers.length, columns = start.networks[state.b].layers.length;
    choose(Math.min(Math.max(state.row + step[0], 0), rows - 1),
      Math.min(Math.max(state.column + step[1], 0), columns - 1));
  }

  async function drawCurves(content, a, b) {
    const { matches, ceilings } = content;
    const has = matches.length > 0;
    for (const id of ["curve", "depth"]) byId(id).parentElement.classList.toggle("hidden", !has);
    if (!has) return;
    byId("curve-title").textContent = `${capital(titleOf(start.similarity))} of each layer with its best match`;
    byId("depth-title").textContent = "Where the best match of each layer lies";
    const names = [a.name, b.name];
    const band = (rows, low, high, tint) => ({ x: [...rows.map((r) => r.depth), ...rows.map((r) => r.depth).reverse()],
      y: [...rows.map((r) => r[high]), ...rows.map((r) => r[low]).reverse()], fill: "toself",
      fillcolor: tint, line: { width: 0 }, hoverinfo: "skip", showlegend: false, mode: "lines" });
    const lines = (value, low, high) => names.flatMap((name, k) => {
      const rows = matches.filter((row) => row.network === name);
      const tint = colour(k ? "--second" : "--accent");
      return [band(rows, low, high, `${tint}33`), { x: rows.map((r) => r.depth), y: rows.map((r) => r[value]),
        name: `layers of ${plain(name)}`, mode: "lines+markers", line: { color: tint, width: 2 },
        marker: { size: 7, symbol: k ? "square" : "circle" },
        customdata: rows.map((r) => `<b>${plain(r.layer)}</b> ${r.depth.toFixed(2)}<br>best match <b>${plain(r.match)}</b> ` +
          `${r.match_depth.toFixed(2)}<br>${say(r.value)} (95 %: ${say(r.low)} to ${say(r.high)})`),
        hovertemplate: "%{customdata}<extra></extra>" }];
    });
    const legend = { orientation: "h", y: 1.14, x: 0 };
    const xaxis = { title: { text: "relative depth of a layer" }, range: [-0.03, 1.03] };
    await draw("curve", () => ({ traces: [...lines("value", "low", "high"), ...names.map((name, k) => {
      const rows = ceilings.filter((row) => row.network === name);
      return { x: rows.map((r) => r.depth), y: rows.map((r) => r.value), mode: "lines",
        name: `two halves of ${plain(name)}`, line: { dash: "dot", width: 1.5,
          color: colour(k ? "--second" : "--accent") }, visible: rows.length > 0, hoverinfo: "skip" };
    })], height: 360, legend, xaxis, yaxis: { title: { text: titleOf(start.similarity) }, rangemode: "tozero" } }));
    await draw("depth", () => ({ traces: [{ x: [0, 1], y: [0, 1], mode: "lines", name: "same depth",
      line: { dash: "dash", color: colour("--soft"), width: 1 }, hoverinfo: "skip" },
    ...lines("match_depth", "match_depth_low", "match_depth_high")], height: 360, legend, xaxis,
    yaxis: { title: { text: "relative depth of its best match" }, range: [-0.03, 1.03] } }));
  }

  // ---- concepts of a pair ------------------------------------------------------------------

  /** Of each concept the mean over the best matches of all layers, and the least alike first. */
  function agreements(content, turned) {
    const { names, value, stderr } = content.concepts;
    const [, rows, columns] = value.shape, size = rows * columns;
    const main = matrixOf(content.measures[start.similarity].value, false);
    const cells = [];
    for (let i = 0; i < rows; i++) cells.push(i * columns + largest(main[i]));
    for (let j = 0; j < columns; j++) cells.push(largest(main.map((row) => row[j])) * columns + j);
    return names.map((name, k) => {
      const own = value.data.subarray(k * size, (k + 1) * size);
      const errors = stderr.data.subarray(k * size, (k + 1) * size);
      const there = cells.filter((cell) => known(own[cell]));
      const mean = (of) => there.reduce((sum, cell) => sum + of[cell], 0) / there.length;
      return { name, own: matrixOf({ data: own, shape: [rows, columns] }, turned),
        value: there.length ? mean(own) : NaN, error: there.length ? mean(errors) : NaN };
    }).sort((x, y) => (known(x.value) ? x.value : 2) - (known(y.value) ? y.value : 2));
  }

  const largest = (row) => row.reduce((best, value, k) =>
    (known(value) && (!known(row[best]) || value > row[best]) ? k : best), 0);

  function showMultiples(content, a, b, turned) {
    byId("concepts-part").classList.toggle("hidden", !content.concepts);
    if (!content.concepts) return;
    const found = agreements(content, turned);
    const defined = found.filter((each) => known(each.value));
    const most = found.flatMap((each) => each.own.flat()).filter(known).reduce((x, y) => Math.max(x, y), 0.1);
    byId("concepts-lead").textContent = defined.length > 1
      ? `Adjusted Jaccard index of each concept at all pairs of layers, the least alike first, in ` +
        `one scale from 0 to ${say(most, 1)}. Over the best matches of layers ${defined[0].name} differs most ` +
        `(${say(defined[0].value, 2)}), ${defined[defined.length - 1].name} least ` +
        `(${say(defined[defined.length - 1].value, 2)}).` : "";
    byId("multiples").replaceChildren(...found.map((each) => {
      const canvas = element("canvas", { role: "img", "aria-label": `${each.name}: ${say(each.value, 2)}` });
      paintCells(canvas, each.own, most);
      return element("button", { type: "button", class: "multiple", title: "Show on test images",
        onclick: () => { showCell(each.name); byId("cell").scrollIntoView(); } },
      canvas, element("b", {}, each.name), element("span", {},
        known(each.value) ? `mean of best matches ${say(each.value, 2)}` : "not defined"));
    }));
    byId("concepts-title").textContent = `Each concept by itself: rows ${a.name}, columns ${b.name}`;
  }

  const viridis = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
    [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

  function tint(share) {
    const place = Math.min(Math.max(share, 0), 1) * (viridis.length - 1);
    const k = Math.min(Math.floor(place), viridis.length - 2), part = place - k;
    return viridis[k].map((value, c) => Math.round(value + part * (viridis[k + 1][c] - value)));
  }

  function paintCells(canvas, cells, most) {
    const rows = cells.length, columns = cells[0].length, scale = Math.ceil(176 / Math.max(rows, columns));
    canvas.width = columns * scale;
    canvas.height = rows * scale;
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    const context = canvas.getContext("2d");
    cells.forEach((row, i) => row.forEach((value, j) => {
      if (known(value)) {
        context.fillStyle = `rgb(${tint(value / most)})`;
        context.fillRect(j * scale, i * scale, scale, scale);
      } else {
        context.strokeStyle = colour("--hatch");
        context.beginPath();
        context.moveTo(j * scale, (i + 1) * scale);
        context.lineTo((j + 1) * scale, i * scale);
        context.stroke();
      }
    }));
  }

  // ---- a cell ------------------------------------------------------------------------------

  async function choose(row, column) {
    [state.row, state.column] = [row, column];
    await Plotly.relayout(byId("matrix"), { shapes: [frame()] });
    await showCell();
  }

  async function showCell(concept = null) {
    const { pair, turned } = stored(), newest = turn("cell");
    const content = await load(`pair-${pair.a}-${pair.b}`);
    if (!newest()) return;
    const a = start.networks[state.a], b = start.networks[state.b];
    const one = a.layers[state.row], other = b.layers[state.column];
    const main = content.measures[start.similarity];
    const at = (array) => (array ? matrixOf(array, turned)[state.row][state.column] : NaN);
    const value = withError(at(main.value), at(main.stderr));
    const facts = [`${one.name} of ${a.name} and ${other.name} of ${b.name}: ${titleOf(start.similarity)} ${value}`];
    if (content.measures.jaccard && start.similarity !== "jaccard") facts.push(`raw ${say(at(content.measures.jaccard.value))}`);
    if (main.chance && Math.abs(at(main.chance)) >= 0.0005) facts.push(`by chance ${say(at(main.chance))}`);
    if (main.ceiling && known(at(main.ceiling))) facts.push(`share of ceiling ${say(at(main.value) / at(main.ceiling), 2)}`);
    if (main.z) facts.push(`${say(at(main.z), 1)} standard deviations from re-paired images`);
    byId("reading").textContent = `Chosen: ${facts.join("; ")}.`;
    byId("cell-lead").textContent = `${facts[0]}. A concept fires inside the yellow line.`;
    if (!start.images.length) {
      byId("matches").replaceChildren(element("p", { class: "lead" },
        "The run keeps no thumbnails of its test images (data.thumbnails)."));
      return;
    }
    const [ours, theirs] = await Promise.all([load(`masks-${state.a}-${state.row}`), load(`masks-${state.b}-${state.column}`)]);
    if (!newest()) return;
    const rows = (content.partners ? partners(content, turned, ours, theirs) : sameNames(content, turned, ours));
    rows.sort((x, y) => (known(y.value) ? y.value : -2) - (known(x.value) ? x.value : -2));
    if (concept) rows.sort((x, y) => (y.name === concept) - (x.name === concept));
    const heading = element("div", { class: "row heading" }, element("div", {}, "concept"),
      element("div", {}, `${a.name}: ${one.name}`), element("div", {}, `${b.name}: ${other.name}`));
    byId("matches").replaceChildren(heading, ...rows.map((row) => {
      const images = jointly(ours, row.k, theirs, row.l);
      return element("div", { class: "row" }, element("div", { class: "name" }, element("b", {}, row.title),
        element("span", {}, `adjusted ${withError(row.value, row.error)}`)),
      tiles(ours, row.k, images), tiles(theirs, row.l, images));
    }));
  }

  function sameNames(content, turned, ours) {
    const { names, value, stderr } = content.concepts;
    const [, rows, columns] = value.shape;
    const place = turned ? state.column * columns + state.row : state.row * columns + state.column;
    return names.map((name, k) => ({ name, title: name, k: ours.names.indexOf(name), l: ours.names.indexOf(name),
      value: value.data[k * rows * columns + place], error: stderr.data[k * rows * columns + place] }));
  }

  function partners(content, turned, ours, theirs) {
    const { partner, value, stderr } = content.partners;
    const [, columns, most] = partner.shape;
    const first = (turned ? state.column * columns + state.row : state.row * columns + state.column) * most;
    const found = [];
    for (let k = 0; k < most; k++) {
      const l = partner.data[first + k];
      if (l === 255) continue;
      const [mine, its] = turned ? [l, k] : [k, l];
      found.push({ name: ours.names[mine], title: `${ours.names[mine]} and ${theirs.names[its]}`, k: mine, l: its,
        value: value.data[first + k], error: stderr.data[first + k] });
    }
    return found;
  }

  /** The images on which both concepts are strong. */
  function jointly(ours, k, theirs, l, count = 4) {
    const strength = (part, concept, image) => part.strengths.data[image * part.strengths.shape[1] + concept];
    return start.images.map((_, image) => image)
      .map((image) => [Math.sqrt(strength(ours, k, image) * strength(theirs, l, image)) +
        0.1 * Math.max(strength(ours, k, image), strength(theirs, l, image)), image])
      .sort((x, y) => y[0] - x[0] || x[1] - y[1]).slice(0, count).map(([, image]) => image);
  }

  function tiles(part, concept, images) {
    return element("div", { class: "tiles" }, ...images.map((image) => {
      const canvas = element("canvas", { role: "img", title: start.images[image],
        "aria-label": `${part.names[concept]} on ${start.images[image]}` });
      paintMask(canvas, image, mask(part, concept, image));
      return canvas;
    }));
  }

  function mask(part, concept, image) {
    const [, concepts, bytes] = part.bits.shape, [rows, columns] = start.grid;
    const first = (image * concepts + concept) * bytes;
    const found = new Uint8Array(rows * columns);
    for (let k = 0; k < found.length; k++) found[k] = (part.bits.data[first + (k >> 3)] >> (7 - (k & 7))) & 1;
    return found;
  }

  const pictures = new Map();

  function picture(number) {
    if (!pictures.has(number)) {
      pictures.set(number, new Promise((resolve) => {
        const found = new Image();
        found.onload = () => resolve(found);
        found.onerror = () => resolve(null);
        load("pictures").then((part) => { found.src = part.pictures[number]; });
      }));
    }
    return pictures.get(number);
  }

  /** An image, dark and grey where a concept does not fire, with a line around where it does. */
  async function paintMask(canvas, number, bits) {
    const photo = await picture(number);
    if (!photo) return;
    const scale = photo.width < 200 ? 2 : 1, width = photo.width * scale, height = photo.height * scale;
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(enlarged(bits), 0, 0, width, height); // interpolated, for a smooth line
    const cover = context.getImageData(0, 0, width, height).data;
    const inside = new Uint8Array(width * height).map((_, k) => (cover[4 * k + 3] >= 128 ? 1 : 0));
    context.clearRect(0, 0, width, height);
    context.drawImage(photo, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height), { data } = pixels;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const k = y * width + x, distance = toBorder(inside, x, y, width, height);
        if (inside[k] && distance > 2) continue;
        let rgb;
        if (distance <= 2) rgb = inside[k] ? [255, 225, 25] : [0, 0, 0];
        else {
          const grey = (data[4 * k] + data[4 * k + 1] + data[4 * k + 2]) / 3;
          rgb = [0, 1, 2].map((c) => 0.45 * (0.5 * data[4 * k + c] + 0.5 * grey));
        }
        for (let c = 0; c < 3; c++) data[4 * k + c] = rgb[c];
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  function enlarged(bits) {
    const [rows, columns] = start.grid, small = document.createElement("canvas");
    [small.width, small.height] = [columns, rows];
    const context = small.getContext("2d"), image = context.createImageData(columns, rows);
    bits.forEach((fires, k) => { image.data[4 * k + 3] = fires ? 255 : 0; });
    context.putImageData(image, 0, 0);
    return small;
  }

  /** Steps from a pixel to the next one that is on the other side; 3 for more than 2. */
  function toBorder(inside, x, y, width, height) {
    const own = inside[y * width + x];
    for (let step = 1; step <= 2; step++) {
      if ((x >= step && inside[y * width + x - step] !== own) ||
        (x + step < width && inside[y * width + x + step] !== own) ||
        (y >= step && inside[(y - step) * width + x] !== own) ||
        (y + step < height && inside[(y + step) * width + x] !== own)) return step;
    }
    return 3;
  }

  // ---- one network -------------------------------------------------------------------------

  async function showNetwork() {
    const network = start.networks[state.one], newest = turn("network");
    const content = await load(`network-${state.one}`);
    if (!newest()) return;
    byId("scores-part").classList.toggle("hidden", !content.scores);
    byId("flow-part").classList.toggle("hidden", !content.flow);
    if (content.scores) await drawScores(content.scores, network);
    if (content.flow) await drawFlow(content.flow);
    if (!newest()) return;
    fill("one-layer", labelsPlain(network), state.layer);
    await showGallery(network, content, newest);
  }

  const labelsPlain = (network) => network.layers.map((layer) =>
    `${layer.name} (${layer.trunk ? layer.depth.toFixed(2) : "branch"})`);

  function drawScores({ concepts, value }, network) {
    const cells = matrixOf(value), rows = labels(network);
    return draw("scores", () => ({ traces: [{ type: "heatmap", z: cells, x: concepts.map(plain), y: rows,
      colorscale: "Viridis", zmin: 0, zmax: top(cells, {}), xgap: 1, ygap: 1, hoverongaps: false,
      colorbar: { thickness: 12, outlinewidth: 0 }, texttemplate: rows.length * concepts.length <= 400 ? "%{z:.2f}" : "",
      textfont: { size: 11 }, hovertemplate: "%{x} at %{y}: %{z:.3f}<extra></extra>" }],
    images: [hatch()], height: Math.max(260, 22 * rows.length + 120), width: Math.max(420, 56 * concepts.length + 260),
    xaxis: { showgrid: false, tickangle: -40 }, yaxis: { autorange: "reversed", showgrid: false,
      title: { text: "layer, relative depth" } } }));
  }

  function drawFlow(flow) {
    const { distance, half_distance: half } = flow.numbers;
    const told = (what, number) => (known(number.value)
      ? `${what} ${say(number.value, 2)} deeper (95 %: ${say(number.low, 2)} to ${say(number.high, 2)})` : "");
    byId("flow-lead").textContent = ["Each point is a pair of layers of this network: how much less alike " +
      "they are than each is with itself, against how far apart they lie.",
    told("On average the next layer that means something else lies", distance),
    told("Half of the agreement is lost", half)].filter(Boolean).map((text) => text.replace(/\.?$/, ".")).join(" ");
    const lines = [[distance, "solid"], [half, "dash"]].filter(([number]) => known(number.value));
    return draw("flow", () => ({ traces: [{ x: flow.distance, y: flow.loss, mode: "markers",
      marker: { color: colour("--accent"), size: 8, opacity: 0.6 },
      hovertemplate: "%{x:.2f} apart: %{y:.3f} less alike<extra></extra>" }], height: 340,
    shapes: lines.map(([number, dash]) => ({ type: "line", x0: number.value, x1: number.value, yref: "paper",
      y0: 0, y1: 1, line: { color: colour("--second"), dash, width: 1.5 } })),
    xaxis: { title: { text: "difference of relative depth" } },
    yaxis: { title: { text: "loss of agreement" } } }));
  }

  async function showGallery(network, content, newest) {
    const layer = network.layers[state.layer];
    byId("gallery-part").classList.toggle("hidden", !start.images.length);
    byId("one-layer-label").classList.toggle("hidden", !start.images.length);
    if (!start.images.length) return;
    byId("gallery-title").textContent = `Where the concepts of ${layer.name} fire`;
    const part = await load(`masks-${state.one}-${state.layer}`);
    if (!newest()) return;
    const about = new Map((content.concepts || []).filter((row) => row.layer === layer.name).map((row) => [row.concept, row]));
    byId("gallery").replaceChildren(...part.names.map((name, k) => {
      const row = about.get(name), lines = [];
      if (row && row.label) lines.push(row.label);
      if (row && known(row.area)) lines.push(`in all images ${(100 * row.area).toFixed(1)} %`);
      if (row && known(row.reproducibility)) lines.push(`reproducible ${say(row.reproducibility, 2)}`);
      return element("div", { class: "row single" }, element("div", { class: "name" }, element("b", {}, name),
        ...lines.map((text) => element("span", {}, text))), tiles(part, k, jointly(part, k, part, k, 6)));
    }));
  }

  // ---- the page ----------------------------------------------------------------------------

  function fill(id, names, chosen) {
    byId(id).replaceChildren(...names.map((name, k) => {
      const option = element("option", { value: k }, name);
      option.selected = k === chosen;
      return option;
    }));
  }

  function choosePair(a, b) {
    Object.assign(state, { a, b, row: -1, column: -1 });
    const names = start.networks.map((network) => network.name);
    fill("pair-a", names, a);
    fill("pair-b", names, b);
    return showPair();
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
  }

  async function redraw() {
    for (const [id, make] of drawn) {
      const { traces, ...rest } = make();
      await Plotly.react(byId(id), traces, layout(rest), settings);
    }
    await showPair();
  }

  async function begin() {
    theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    start = await load("start");
    showFindings();
    state.measure = start.similarity;
    const names = start.networks.map((network) => network.name);
    const first = start.pairs[0];
    fill("one", names, 0);
    byId("pair-a").onchange = (event) => choosePair(Number(event.target.value), state.b);
    byId("pair-b").onchange = (event) => choosePair(state.a, Number(event.target.value));
    byId("one").onchange = (event) => { Object.assign(state, { one: Number(event.target.value), layer: 0 }); showNetwork(); };
    byId("one-layer").onchange = (event) => { state.layer = Number(event.target.value); showNetwork(); };
    byId("theme").onclick = () => { theme(dark() ? "light" : "dark"); redraw(); };
    await showNetworks();
    await choosePair(first.a, first.b);
    await showNetwork();
    document.documentElement.dataset.state = "ready";
  }

  document.addEventListener("DOMContentLoaded", begin);
  entry("start").asked = true; // its script is part of the page
  return { receive };
})();
