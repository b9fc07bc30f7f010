"use strict";
/* What goes wrong is said in the page, most of all a file that was not copied with it. Loaded
   first, so that it sees which of the others are missing; is it missing itself, what index.html
   says stays there. */

const lacking = new Set(); // sentences about files

/** Say one sentence with the way out; what is only a consequence of a missing file is left out. */
function complain(error) {
  const said = error.message || String(error);
  if (error.file) lacking.add(said);
  const place = document.getElementById("problem");
  if (!place) return addEventListener("DOMContentLoaded", () => complain(error));
  console.error(said);
  const why = lacking.size ? [...lacking].join("; ") : `Something went wrong (${said})`;
  place.textContent = `${why}. So not all of the report can be shown: copy its whole folder again.`;
  return place.classList.remove("loading");
}

/** About a file of the folder. */
function problemOf(file, what) {
  return Object.assign(new Error(`${file} ${what}`), { file });
}

addEventListener("error", (event) => { // those of elements are seen on their way down alone
  const { target } = event, file = target instanceof Element && (target.getAttribute("src") ||
    target.getAttribute("href"));
  if (target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) {
    complain(problemOf(file, "is missing beside this page"));
  } else if (event.message) complain(event);
}, true);
addEventListener("unhandledrejection", (event) => complain(event.reason));
