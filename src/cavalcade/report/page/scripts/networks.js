"use strict";
/* Network x network, and how they cluster. Drawn without Plotly, so that it is there at once. */

const TREE_WIDTH = 150;

function showNetworks() {
  show("networks", start.networks.length > 1);
  if (start.networks.length < 2) return;
  byId("networks-lead").textContent = `Similarity of each pair: mean ${titleOf(start.similarity)} ` +
    "of layers and their best matches, chance removed. A click shows a pair." +
    (start.tree ? " Left, networks that are alike are joined early; percentages are the share " +
      "of resamples of blocks with this cluster." : "");
  drawnBy("networks-plot", () => byId("networks-plot").replaceChildren(networksPicture()));
}

function networksPicture() {
  const order = start.tree ? start.tree.order : start.networks.map((_, k) => k);
  const cells = matrixOf(start.matrix.values);
  const size = Math.max(16, Math.min(64, 560 / order.length)), side = size * order.length;
  const names = order.map((k) => shortened(start.networks[k].name, 1.4 * LONGEST));
  const most = endOf(cells, ""), wide = Math.max(...names.map((name) => widthOf(name)));
  const left = (start.tree ? TREE_WIDTH + 12 : 0) + wide + 12, above = 8;
  const slope = Math.sin(Math.PI / 4.5);
  const [width, height] = [left + Math.max(side + 80, side + 20), above + side + 20 + wide * slope];
  const picture = drawing("svg", { class: "networks", width, height, tabindex: 0, role: "application",
    viewBox: `0 0 ${width} ${height}`,
    "aria-label": "Matrix of networks: arrow keys move, Enter shows a pair" });
  picture.append(hatchPattern("no-number"));
  const place = { order, cells, size, left, above, most };
  order.forEach((_, i) => order.forEach((__, j) => picture.append(...networkCell(place, i, j))));
  names.forEach((name, k) => picture.append(...networkName(place, name, k, side)));
  picture.append(...scale(left + side + 18, above, Math.min(side, 180), most, anyBelow(cells)));
  if (start.tree) picture.append(...branches(place));
  picture.append(walked(picture, place));
  return picture;
}

function hatchPattern(id) {
  const pattern = drawing("pattern", { id, width: 7, height: 7, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)" });
  pattern.append(drawing("line", { x1: 0, y1: 0, x2: 0, y2: 7, class: "hatched" }));
  return drawing("defs", {}, pattern);
}

function networkCell({ order, cells, size, left, above, most }, i, j) {
  const [a, b] = [order[i], order[j]], value = cells[a][b];
  const [x, y] = [left + j * size, above + i * size];
  const box = { x: x + 0.5, y: y + 0.5, width: size - 1, height: size - 1 };
  if (a === b) return [drawing("rect", { ...box, class: "same" })];
  if (!known(value)) return [drawing("rect", { ...box, fill: "url(#no-number)" })];
  const rgb = tint(value / most), bright = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 120;
  const found = [drawing("rect", { ...box, fill: `rgb(${rgb})`, class: "chosen-by-click",
    onclick: () => fromNetworks(a, b) })];
  if (size >= 26) {
    const number = drawing("text", { x: x + size / 2, y: y + size / 2 + 4, "text-anchor": "middle",
      "pointer-events": "none", "font-size": size < 40 ? 10 : 12, fill: bright ? "#000" : "#fff" });
    number.append(say(value, 2));
    found.push(number);
  }
  return found;
}

function networkName({ size, left, above }, name, k, side) {
  const middle = (k + 0.5) * size;
  const row = drawing("text", { x: left - 7, y: above + middle + 4, "text-anchor": "end" });
  const [x, y] = [left + middle + 4, above + side + 14];
  const column = drawing("text", { x, y, "text-anchor": "end", transform: `rotate(-40 ${x} ${y})` });
  row.append(name);
  column.append(name);
  return [row, column];
}

/** A bar of the colours with its ends, of which the lower may be open. */
function scale(x, y, height, most, below) {
  const steps = 40, part = height / steps;
  const bars = Array.from({ length: steps }, (_, k) => drawing("rect", { x, width: 11,
    y: y + height - (k + 1) * part, height: part + 0.3, fill: `rgb(${tint((k + 0.5) / steps)})` }));
  const ends = [[0, height], [most / 2, height / 2], [most, 0]].map(([value, down]) => {
    const text = drawing("text", { x: x + 16, y: y + down + 4 });
    text.append(`${below && value === 0 ? "≤ " : ""}${value.toFixed(most < 1 ? 2 : 1)}`);
    return text;
  });
  return [...bars, ...ends];
}

/** The dendrogram, leaves at the names of rows. */
function branches({ size, above }) {
  const { across, heights, support } = start.tree;
  const most = Math.max(...heights.flat(), 1e-9), right = TREE_WIDTH + 4;
  const x = (height) => right - (height / most) * TREE_WIDTH;
  const y = (leaf) => above + (leaf + 0.5) * size;
  return across.flatMap((leaves, k) => {
    const path = leaves.map((leaf, n) => `${n ? "L" : "M"}${x(heights[k][n])} ${y(leaf)}`).join("");
    const share = drawing("text", { x: x(heights[k][1]) + 4, class: "small",
      y: (y(leaves[1]) + y(leaves[2])) / 2 + 3 });
    share.append(known(support[k]) ? `${Math.round(100 * support[k])} %` : "");
    return [drawing("path", { d: path, class: "branch" }), share];
  });
}

/** Notes beside the pointer, and a frame that arrow keys move. */
function walked(picture, { order, size, left, above }) {
  const at = { i: 0, j: 1 };
  const frame = drawing("rect", { class: "frame", width: size, height: size, fill: "none",
    "pointer-events": "none" });
  const put = () => filled(frame, { x: left + at.j * size, y: above + at.i * size }, []);
  const cellAt = (event) => {
    const box = picture.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top - above) / size);
    const j = Math.floor((event.clientX - box.left - left) / size);
    return i === j || !(i in order) || !(j in order) ? null : [order[i], order[j]];
  };
  noted(picture, (event) => {
    const pair = cellAt(event);
    return pair && networksNote(...pair);
  });
  picture.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (event.key === "Enter" && at.i !== at.j) fromNetworks(order[at.i], order[at.j]);
    if (!step) return;
    event.preventDefault();
    [at.i, at.j] = [at.i + step[0], at.j + step[1]].map((k) => Math.min(Math.max(k, 0), order.length - 1));
    put();
    byId("said").textContent = networksNote(order[at.i], order[at.j]).join(", ");
  });
  put();
  return frame;
}

function networksNote(a, b) {
  if (a === b) return [`${start.networks[a].name} with itself`];
  const names = `${start.networks[a].name} and ${start.networks[b].name}`;
  const found = stored(a, b).pair.numbers;
  if (!found) return [names];
  return [names, `similarity ${withError(found.similarity.value, found.similarity.stderr)}`,
    found.share_of_ceiling ? `share of ceiling ${say(found.share_of_ceiling.value, 2)}` : "",
    found.depth_gap ? `depth gap ${say(found.depth_gap.value)}` : ""].filter(Boolean);
}

function fromNetworks(a, b) {
  choosePair(a, b);
  byId("pair").scrollIntoView();
}
