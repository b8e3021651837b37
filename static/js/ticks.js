// Rows of the node list can be ticked; the bar above then acts on these alone, and says so. What it does is
// asked by links, so the page after the click names the nodes again before anything happens.

const ticked = new Set();

export function startTicks() {
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-tick-all]")) for (const one of boxes()) set(one, box.checked);
    else if (box.matches("[data-tick]")) set(box, box.checked);
    else return;
    draw();
  });
  document.addEventListener("htmx:after:swap", agree);
  addEventListener("pageshow", agree); // some browsers tick again, on the way back, what this page does not know of
}

const boxes = () => document.querySelectorAll("[data-tick]");

function set(box, on) {
  box.checked = on;
  if (on) ticked.add(box.dataset.tick);
  else ticked.delete(box.dataset.tick);
}

/** What looks ticked is what the bar acts on. */
function agree() {
  for (const one of boxes()) one.checked = ticked.has(one.dataset.tick);
  draw();
}

function draw() {
  const bar = document.querySelector(".bulk:has([data-ticked-count])");
  if (!bar) return;
  // A node that left the list is not acted on unseen.
  const shown = new Set([...boxes()].map((box) => box.dataset.tick));
  for (const name of ticked) if (!shown.has(name)) ticked.delete(name);
  const [count, words] = ["[data-ticked-count]", "[data-ticked-words]"].map((one) => bar.querySelector(one));
  write(count, ticked.size ? `${ticked.size} ticked` : null);
  write(words, ticked.size ? "only these rows" : null);
  bar.toggleAttribute("data-ticked", ticked.size > 0);
  for (const link of bar.querySelectorAll("[data-takes-ticked]")) {
    link.dataset.all ??= link.getAttribute("href");
    const url = new URL(link.dataset.all, location.href);
    if (ticked.size) {
      if (url.pathname.endsWith(".csv")) url.search = "";
      url.searchParams.delete("pick");
      url.searchParams.set("nodes", [...ticked].join(","));
    }
    link.setAttribute("href", ticked.size ? url.pathname + url.search : link.dataset.all);
  }
  const all = document.querySelector("[data-tick-all]");
  if (!all) return;
  all.checked = ticked.size > 0 && ticked.size === shown.size;
  all.indeterminate = ticked.size > 0 && ticked.size < shown.size;
}

/** `text` instead of what the server wrote; null: what it wrote. */
function write(part, text) {
  part.dataset.plain ??= part.textContent;
  part.textContent = text ?? part.dataset.plain;
}
