"use strict";
/* What was found: in sentences, pair by pair, and as numbers. */

const QUESTIONS = ["Which layers mean the same?", "How alike are they all in all?",
  "Which concept differs most?", "What would chance give?"];
const MOST_ANSWERS = 3; // pairs that are listed before one asks for more
const FEWEST_REPAIRINGS = 8, LARGE_Z = 20; // of a z that is put into words

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
  showHelp();
  byId("numbers").replaceChildren(...[
    card("similarity", `Best matches of layers: ${titleOf(start.similarity)} above chance`, 3),
    card("depth_gap", "Best matches lie apart by this share of depth", 3),
    card("rank_correlation", "Rank correlation of depths", 2),
  ].filter(Boolean));
}

function card(key, title, digits) {
  const found = start.findings[key];
  if (!found) return null;
  const lines = [intervalInWords(found, digits),
    key === "similarity" ? chanceOfNetworks()
      : `chance, by re-paired images: ${say(found.repaired, digits)}`,
    `${found.repairings_as_extreme || "none"} of ${start.repairings} re-pairings ` +
      `${found.repairings_as_extreme > 1 ? "give" : "gives"} as much`,
    `random twins: ${known(found.random) ? say(found.random, digits) : "none were compared"}`];
  return element("div", { class: "card" }, element("h3", {}, title),
    element("div", { class: "large" }, say(found.value, digits)),
    ...lines.filter(Boolean).map((text) => element("p", {}, text)));
}

/** Only indices of labelled concepts are made so that chance is 0 and equal masks are 1. */
function chanceOfNetworks() {
  return start.without_chance && start.labelled ? "chance: 0; equal: 1"
    : "chance: 0, since what re-paired images give is taken off";
}

/** A z in words: of few re-pairings it says nothing, and a large one is not known closely. */
function chanceInWords(z) {
  if (!known(z)) return "";
  if (start.repairings < FEWEST_REPAIRINGS) {
    return `${start.repairings} re-pairings are too few to say how far from chance`;
  }
  const far = Math.abs(z) > LARGE_Z ? `> ${LARGE_Z}` : say(Math.abs(z), 0);
  return `${far} standard deviations ${z < 0 ? "below" : "above"} the mean of ${start.repairings} re-pairings`;
}

function showLeftOut() {
  show("left-out", start.left_out.length > 0);
  byId("left-out").replaceChildren(
    element("b", {}, "In no matrix: "),
    ...start.left_out.map(({ concept, why }, k) =>
      element("span", {}, `${k ? "; " : ""}${concept}, which ${why}`)),
    ". All matrices average the same concepts, those that are defined everywhere.");
  show("images-left-out", start.images_left_out !== "");
  byId("images-left-out").textContent = `Note: ${start.images_left_out}.`;
}

/** A row for each pair: the layers and concepts that answer what is asked first. */
function showAnswers() {
  const different = start.pairs.filter((pair) => pair.numbers);
  const pairs = different.filter((pair) => pair.layers);
  show("answers-part", pairs.length > 0);
  sayUnanswered(different.filter((pair) => !pair.layers), different.length);
  byId("questions").replaceChildren(...["Networks", ...QUESTIONS].map((text) =>
    element("th", { scope: "col" }, text)));
  byId("answers").replaceChildren(...pairs.slice(0, MOST_ANSWERS).map(answersRow));
  show("more-answers", pairs.length > MOST_ANSWERS);
  byId("more-answers").textContent = `All ${pairs.length} pairs`;
  byId("more-answers").onclick = () => { // of a hundred networks there are thousands
    byId("answers").append(...pairs.slice(MOST_ANSWERS).map(answersRow));
    show("more-answers", false);
  };
}

/** Why pairs are missing from the table. */
function sayUnanswered(pairs, all) {
  show("unanswered", pairs.length > 0);
  if (!pairs.length) return;
  const which = pairs.length === all ? "Which layers mean the same" : `Of ${pairs.length} of ${all} ` +
    "pairs which layers mean the same";
  byId("unanswered").textContent = `${which} cannot be said: ${pairs[0].undefined}.`;
}

function answersRow(pair) {
  const [a, b] = [start.networks[pair.a], start.networks[pair.b]];
  const go = element("button", { type: "button", class: "link",
    onclick: () => { choosePair(pair.a, pair.b); byId("pair").scrollIntoView(); } },
  `${a.name} and ${b.name}`);
  const cells = answers(pair).map(([large, ...small], n) =>
    element("td", { "data-question": QUESTIONS[n] }, element("b", {}, large),
      ...small.filter(Boolean).map((text) => element("span", {}, text))));
  return element("tr", {}, element("th", { scope: "row" }, go), ...cells);
}

/** Layers, all in all, concepts, chance: of each what is said large, and what small. */
function answers(pair) {
  const { similarity, share_of_ceiling: share } = pair.numbers;
  const { row, column, value, stderr, of, z, scores, random } = pair.layers;
  const [one, other] = [start.networks[pair.a].layers[row], start.networks[pair.b].layers[column]];
  return [
    [pair.matches ? matchesInWords(pair) : `${one.name} and ${other.name}`,
      `most alike: ${one.name} and ${other.name}, ${withError(value, stderr)}, at depths ` +
        `${depthOf(one)} and ${depthOf(other)}; ${chosenOf("highest", of, "cell")}`,
      scores && `labels found there: ${scores.map((score) => say(score, 2)).join(" and ")} ` +
        "(Jaccard index; layers that find few are alike in what they mistake)",
      known(random) && `random twins there: ${say(random)}`, chanceInWords(z),
      !pair.matches && matchesInWords(pair)],
    [withError(similarity.value, similarity.stderr),
      known(similarity.value) ? "above chance, over best matches" : pair.undefined,
      known(similarity.low) && intervalInWords(similarity),
      share && known(share.value) && `${Math.round(100 * share.value)} % of the ceiling`],
    answerOfConcepts(pair.concepts),
    answerOfChance(pair),
  ];
}

/** What was chosen since it is extreme lies further out than it would in other images. */
function chosenOf(which, count, noun) {
  return count > 1 ? `the ${which} of ${count} ${noun}s, so it leans ` +
    `${which === "highest" ? "high" : "low"}` : `the only ${noun} that is defined`;
}

function answerOfConcepts(concepts) {
  if (!concepts) return ["not defined", "no concept is defined at every best match"];
  const { least, next, of, at } = concepts;
  const value = `${withError(least.value, least.stderr, 2)}${at ? ` ${at}` : ""}`;
  const index = start.similarity === "adjusted" ? "" : "adjusted Jaccard index: ";
  if (!next) return ["there is only one", `${least.name}: ${index}${value}`];
  return [least.name, index + value, `next: ${next.name}, ${say(next.value, 2)}`,
    chosenOf("lowest", of, "concept")];
}

function answerOfChance({ layers: { value, raw, chance, raw_chance: rawChance }, numbers }) {
  const twins = numbers.similarity.random;
  const aboutTwins = known(twins) ? `random twins: ${say(twins)} all in all` : "no random twins";
  const aboutRaw = start.similarity !== "jaccard" && known(rawChance) &&
    `raw Jaccard index: ${say(rawChance)} of ${say(raw)} at the layers named here`;
  if (start.without_chance) return ["0", "since it is taken off", aboutRaw, aboutTwins];
  if (!known(chance)) return ["not sampled", aboutTwins];
  return [say(chance), `by re-paired images, of ${say(value)} at the layers named here`, aboutRaw,
    "all in all 0, since it is taken off", aboutTwins];
}

/** Few layers by name, of many how far apart they lie. */
function matchesInWords({ a, b, matches, numbers }) {
  const [one, other] = [start.networks[a], start.networks[b]];
  if (matches) {
    const named = matches.map(([i, j, value]) =>
      `${one.layers[i].name}–${other.layers[j].name} ${say(value, 2)}`);
    return named.join(", ");
  }
  const count = [one, other].flatMap(({ layers }) => layers).filter((layer) => layer.trunk).length;
  const gap = numbers.depth_gap && numbers.depth_gap.value;
  return known(gap) ? `${count} layers and their best matches lie ${say(gap)} of depth apart on average` : "";
}

/** What is said of labelled concepts is not said of mined ones, and the reverse. */
function showHelp() {
  const kind = start.labelled ? "labelled" : "mined";
  for (const each of document.querySelectorAll("#help [data-of]")) {
    each.classList.toggle("hidden", each.dataset.of !== kind);
  }
  byId("repairings").textContent = start.repairings;
}
