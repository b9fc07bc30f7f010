"use strict";
/* The outline of a mask as a smooth path: marching squares on the mask, blurred a little. */

/** The path around the pixels that are set, in a picture of that width and height. */
function outline(bits, [rows, columns], width, height) {
  const field = blurred(bits, rows, columns), next = crossings(field, rows + 2, columns + 2);
  const path = new Path2D();
  const x = (place) => (place[0] - 0.5) / columns * width, y = (place) => (place[1] - 0.5) / rows * height;
  for (const first of next.keys()) {
    let at = first, step = next.get(first);
    if (!step) continue;
    path.moveTo(x(step.from), y(step.from));
    while (step) {
      path.lineTo(x(step.to), y(step.to));
      next.set(at, null);
      at = step.end;
      step = next.get(at);
    }
    path.closePath();
  }
  return path;
}

/** Each pixel's mean with its neighbours, nearer ones more; with a rim of nothing around. */
function blurred(bits, rows, columns) {
  const wide = columns + 2, found = new Float32Array((rows + 2) * wide);
  const at = (i, j) => bits[Math.min(Math.max(i, 0), rows - 1) * columns + Math.min(Math.max(j, 0), columns - 1)];
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const beside = at(i - 1, j) + at(i + 1, j) + at(i, j - 1) + at(i, j + 1);
      const across = at(i - 1, j - 1) + at(i - 1, j + 1) + at(i + 1, j - 1) + at(i + 1, j + 1);
      // of a single pixel more than half is left, so that none is lost
      found[(i + 1) * wide + j + 1] = 0.6 * at(i, j) + 0.07 * beside + 0.03 * across;
    }
  }
  return found;
}

/** For each place where the border is crossed the next one, with the set pixels to the left. */
function crossings(field, rows, columns) {
  const next = new Map();
  const inside = (k) => field[k] > 0.5;
  const cut = (i, j, k, l) => { // where, between two neighbours, the field is one half
    const one = field[i * columns + j], other = field[k * columns + l], share = (0.5 - one) / (other - one);
    return [j + share * (l - j), i + share * (k - i)];
  };
  for (let i = 0; i + 1 < rows; i++) {
    for (let j = 0; j + 1 < columns; j++) {
      const here = i * columns + j;
      const kind = inside(here) + 2 * inside(here + 1) + 4 * inside(here + columns + 1) + 8 * inside(here + columns);
      if (kind === 0 || kind === 15) continue;
      const edges = { // each is known to both squares that it lies between
        top: [2 * here, () => cut(i, j, i, j + 1)],
        right: [2 * (here + 1) + 1, () => cut(i, j + 1, i + 1, j + 1)],
        bottom: [2 * (here + columns), () => cut(i + 1, j, i + 1, j + 1)],
        left: [2 * here + 1, () => cut(i, j, i + 1, j)] };
      for (const [from, to] of SQUARES[kind]) {
        next.set(edges[from][0], { from: edges[from][1](), to: edges[to][1](), end: edges[to][0] });
      }
    }
  }
  return next;
}

/** By which of its corners are inside (1 upper left, 2 upper right, 4 lower right, 8 lower left). */
const SQUARES = { 1: [["top", "left"]], 2: [["right", "top"]], 3: [["right", "left"]],
  4: [["bottom", "right"]], 5: [["top", "left"], ["bottom", "right"]], 6: [["bottom", "top"]],
  7: [["bottom", "left"]], 8: [["left", "bottom"]], 9: [["top", "bottom"]],
  10: [["right", "top"], ["left", "bottom"]], 11: [["right", "bottom"]], 12: [["left", "right"]],
  13: [["top", "right"]], 14: [["left", "top"]] };
