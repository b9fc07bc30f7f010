"use strict";
/* Where concepts fire, drawn on test images. */

const MASK_LINE = "#ffe119", LABEL_LINE = "#4cc9ff";
const photos = new Map(); // number of an image -> promise of it, and of it in grey

/** A row of images with the mask of a concept, and the promise that they are painted. */
function tiles(part, concept, images) {
  const painted = [];
  const row = element("div", { class: "tiles" }, ...images.map((image) => {
    const canvas = element("canvas", { role: "img", title: start.images[image],
      "aria-label": `${part.names[concept]} on ${start.images[image]}` });
    painted.push(paintMask(canvas, image, maskOf(part, concept, image), part.names[concept]));
    return canvas;
  }));
  return { row, painted: Promise.all(painted) };
}

function maskOf(part, concept, image) {
  const [, concepts, bytes] = part.bits.shape, [rows, columns] = start.grid;
  const first = (image * concepts + concept) * bytes;
  const found = new Uint8Array(rows * columns);
  for (let k = 0; k < found.length; k++) found[k] = (part.bits.data[first + (k >> 3)] >> (7 - (k & 7))) & 1;
  return found;
}

function photo(number) {
  if (!photos.has(number)) photos.set(number, load("pictures").then((part) => photoOf(part, number)));
  return photos.get(number);
}

async function photoOf(part, number) {
  const bright = new Image();
  bright.src = part.pictures[number];
  await bright.decode();
  const scale = bright.width < 200 ? 2 : 1;
  const [width, height] = [bright.width * scale, bright.height * scale];
  const dim = element("canvas", { width, height }), context = dim.getContext("2d");
  context.drawImage(bright, 0, 0, width, height);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "rgba(128, 128, 128, 0.5)";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgba(0, 0, 0, 0.55)";
  context.fillRect(0, 0, width, height);
  return { bright, dim, part, width, height };
}

/** An image, dark and grey where a concept does not fire, with a line around where it does. */
async function paintMask(canvas, number, bits, concept) {
  const { bright, dim, part, width, height } = await photo(number);
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"), line = outline(bits, start.grid, width, height);
  context.drawImage(dim, 0, 0);
  context.save();
  context.clip(line);
  context.drawImage(bright, 0, 0, width, height);
  context.restore();
  const label = start.labelled ? part.names.indexOf(concept) : -1;
  strokes(context, line, MASK_LINE, width / 90, []);
  if (label >= 0) {
    const dash = [width / 28, width / 40];
    strokes(context, outline(maskOf(part, label, number), start.grid, width, height), LABEL_LINE, width / 110, dash);
  }
}

/** A line that is seen on any picture: on a dark one that is wider. */
function strokes(context, line, tinted, width, dash) {
  context.setLineDash(dash);
  for (const [style, wide] of [["rgba(0, 0, 0, 0.75)", 2.2 * width], [tinted, width]]) {
    [context.strokeStyle, context.lineWidth] = [style, wide];
    context.stroke(line);
  }
}
