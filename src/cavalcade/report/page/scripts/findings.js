"use strict";
/* What was found: in sentences, pair by pair, and as numbers. */

const QUESTIONS = ["Which layers mean the same?", "How alike are they all in all?",
  "Which concept differs most?", "What would chance give?"];
const MOST_ANSWERS = 3; // pairs that are listed before one asks for more

const titleOf = (key) => (start.measures.find((each) => each.key === key) || {}).title || key;

function showFindings() {
  byId("title").textContent = start.title;
  document.title = `${start.title}: cavalcade`;
  byId("about").textContent = `${start.test_images} test images of ${start.data} in ` +
    `${start.blocks} blocks; concepts by ${start.method}`;
  const sentences = start.sentence.split(/(?<=\.) (?=Best matches)/);
  byId("sentences").replaceChildren(...sentences.map((text) => element("p", {}, text)));
  showLeftOut();
  showAnswers();
  byId("numbers").replaceChildren(...[
    card("similarity", `Best matches of layers: ${titleOf(start.similarity)} above chance`, 3),
    card("depth_gap", "Best matches lie apart by this share of depth", 3),
    card("rank_correlation", "Rank correlation of depths", 2),
  ].filter(Boolean));
}

function card(key, title, digits) {
  const found = start.findings[key];
  if (!found) return null;
  const lines = [`95 %: ${say(found.low, digits)} to ${say(found.high, digits)}`,
    key === "similarity" ? "chance, by re-paired images: 0; equal: 1"
      : `chance, by re-paired images: ${say(found.repaired, digits)}`,
    `random twins: ${known(found.random) ? say(found.random, digits) : "none were compared"}`];
  return element("div", { class: "card" }, element("h3", {}, title),
    element("div", { class: "large" }, say(found.value, digits)),
    ...lines.map((text) => element("p", {}, text)));
}

function showLeftOut() {
  show("left-out", start.left_out.length > 0);
  byId("left-out").replaceChildren(
    element("b", {}, "In no matrix: "),
    ...start.left_out.map(({ concept, why }, k) =>
      element("span", {}, `${k ? "; " : ""}${concept}, which ${why}`)),
    ". All matrices average the same concepts, those that are defined everywhere.");
}

/** A row for each pair: the layers and concepts that answer what is asked first. */
function showAnswers() {
  const pairs = start.pairs.filter((pair) => pair.layers);
  show("answers-part", pairs.length > 0);
  byId("questions").replaceChildren(...["Networks", ...QUESTIONS].map((text) =>
    element("th", { scope: "col" }, text)));
  const rows = pairs.map((pair, k) => {
    const [a, b] = [start.networks[pair.a], start.networks[pair.b]];
    const go = element("button", { type: "button", class: "link",
      onclick: () => { choosePair(pair.a, pair.b); byId("pair").scrollIntoView(); } },
    `${a.name} and ${b.name}`);
    const cells = [element("th", { scope: "row" }, go), ...answers(pair).map(([large, ...small], n) =>
      element("td", { "data-question": QUESTIONS[n] }, element("b", {}, large), ...small.filter(Boolean).map((text) =>
        element("span", {}, text))))];
    return element("tr", k < MOST_ANSWERS ? {} : { class: "more hidden" }, ...cells);
  });
  byId("answers").replaceChildren(...rows);
  show("more-answers", rows.length > MOST_ANSWERS);
  byId("more-answers").textContent = `All ${rows.length} pairs`;
  byId("more-answers").onclick = () => {
    rows.forEach((row) => row.classList.remove("hidden"));
    show("more-answers", false);
  };
}

/** Layers, all in all, concepts, chance: of each what is said large, and what small. */
function answers(pair) {
  const { similarity, share_of_ceiling: share } = pair.numbers;
  const { row, column, value, stderr, z, raw, chance } = pair.layers;
  const [one, other] = [start.networks[pair.a].layers[row], start.networks[pair.b].layers[column]];
  return [
    [`${one.name} and ${other.name}`, `${withError(value, stderr)}, at depths ${depthOf(one)} and ${depthOf(other)}`,
    known(z) && `${say(z, 0)} standard deviations from chance`],
    [withError(similarity.value, similarity.stderr),
      known(similarity.low) && `95 %: ${say(similarity.low)} to ${say(similarity.high)}`,
      share && known(share.value) && `${Math.round(100 * share.value)} % of the ceiling`],
    pair.concepts ? [pair.concepts.least.name,
      `${withError(pair.concepts.least.value, pair.concepts.least.stderr, 2)}` +
      (pair.concepts.at ? ` ${pair.concepts.at}` : ""),
      `the others ${say(pair.concepts.others, 2)} on average`]
      : ["not defined"],
    ["0", known(chance) && `raw: ${say(chance)} of ${say(raw)} at the layers named here`,
      known(similarity.random) ? `random twins: ${say(similarity.random)} all in all` : "no random twins"],
  ];
}
