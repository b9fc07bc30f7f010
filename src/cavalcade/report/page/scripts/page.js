"use strict";
/* The page of a comparison: what is chosen on it, and what happens when it opens. */

const state = { a: 0, b: 0, measure: "", row: -1, column: -1, one: 0, layer: -1 };
let start = null; // the part that is there at once

function theme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").setAttribute("aria-pressed", name === "dark");
}

/** Fulfilled when what was drawn can be seen. */
function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
  });
}

function listen() {
  byId("pair-a").onchange = (event) => choosePair(Number(event.target.value), state.b);
  byId("pair-b").onchange = (event) => choosePair(state.a, Number(event.target.value));
  byId("one").onchange = (event) => {
    Object.assign(state, { one: Number(event.target.value), layer: -1 });
    showNetwork();
  };
  byId("one-layer").onchange = (event) => {
    state.layer = Number(event.target.value);
    showNetwork();
  };
  byId("back").onclick = () => byId("matrix").focus({ preventScroll: true });
  byId("theme").onclick = () => {
    theme(dark() ? "light" : "dark");
    redraw();
  };
}

async function begin() {
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  start = await load("start");
  if (byId("problem").matches(".loading")) byId("problem").textContent = "";
  state.measure = start.similarity;
  showFindings();
  showNetworks();
  listen();
  fill("one", start.networks.map((network) => network.name), 0);
  if (start.networks.length > 1) {
    await painted();
    performance.mark("first picture"); // which benchmarks ask for
  }
  // a part that is missing is no reason to leave out what has its own
  await choosePair(start.pairs[0].a, start.pairs[0].b).catch(complain);
  await showNetwork().catch(complain);
  document.documentElement.dataset.state = "ready";
}

begin().catch(complain);
