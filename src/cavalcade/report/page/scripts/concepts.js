"use strict";
/* Each concept of two networks by itself. */

function showMultiples(shown) {
  const { content, turned, a, b } = shown;
  show("concepts-part", Boolean(content.concepts));
  if (!content.concepts) return;
  const { names, value, stderr, agreement } = content.concepts;
  const [, rows, columns] = value.shape, size = rows * columns;
  const found = names.map((name, k) => ({ name, agreement: agreement[k],
    cells: matrixOf({ data: value.data.subarray(k * size, (k + 1) * size), shape: [rows, columns] }, turned),
    errors: matrixOf({ data: stderr.data.subarray(k * size, (k + 1) * size), shape: [rows, columns] }, turned) }));
  const last = (each) => (known(each.agreement) ? each.agreement : 2);
  found.sort((x, y) => last(x) - last(y));
  const all = found.flatMap((each) => each.cells);
  const most = endOf(all, ""), below = anyBelow(all) ? " or less" : "";
  byId("concepts-title").textContent = `Each concept by itself: rows ${a.name}, columns ${b.name}`;
  byId("concepts-lead").textContent = "Adjusted Jaccard index of each concept at all pairs of " +
    `layers, the least alike first, all in one scale: dark is 0${below}, bright ${say(most, 1)}. A click on a ` +
    "place shows the concept at those two layers.";
  drawnBy("multiples", () => byId("multiples").replaceChildren(
    ...found.map((each) => multiple(each, most, shown))));
}

function multiple({ name, cells, errors, agreement }, most, { a, b, pair }) {
  const canvas = element("canvas", { role: "img", "aria-label": `${name}: ${say(agreement, 2)}` });
  paintCells(canvas, cells, most);
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top) / box.height * cells.length);
    const j = Math.floor((event.clientX - box.left) / box.width * cells[0].length);
    return cells[i] && j in cells[i] ? [i, j] : null;
  };
  noted(canvas, (event) => {
    const at = cellAt(event);
    if (at && pair.a === pair.b && at[0] === at[1]) return [name, layerInWords(a, at[0]), "The same layer"];
    return at && [name, layerInWords(a, at[0]), layerInWords(b, at[1]),
      `adjusted ${withError(cells[at[0]][at[1]], errors[at[0]][at[1]])}`];
  });
  const go = (event) => {
    const at = event.detail ? cellAt(event) : null; // the keyboard has no place
    choose(...(at || [state.row, state.column]), name);
    showImages();
  };
  return element("button", { type: "button", class: "multiple", onclick: go }, canvas,
    element("b", {}, name), element("span", {},
      known(agreement) ? `best matches: ${say(agreement, 2)}` : "not defined in all cells"));
}
