// The node map: one canvas, drawn once from a compact document, patched by the stream's deltas.
// Beside it the page has the same in words (counts by cabinet); arrow keys move, Enter opens.

import { layOut } from "./maplayout.js";
import { matcher } from "./nodematch.js";
import { onEvent } from "./live.js";
import { ago } from "./times.js";

// The document's letters, in states.py's words.
const LETTERS = { n: "not_started", i: "in_progress", s: "succeeded", f: "failed", e: "excluded" };
const LETTER_OF = Object.fromEntries(Object.entries(LETTERS).map(([letter, word]) => [word, letter]));

const AGAIN = 1000;
const LONGEST_AGAIN = 15000;
const PATIENCE = 30000; // a connection that died silently would be waited for until TCP gives up, a quarter of an hour

export function startMap() {
  const root = document.querySelector("[data-map]");
  if (!root) return;
  root.nodeMap = new NodeMap(root); // for consoles and tests
  root.nodeMap.load();
}

class NodeMap {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.tip = root.querySelector(".tip");
    this.said = root.querySelector("[data-said]");
    this.pen = this.canvas.getContext("2d");
    this.nodes = [];
    this.missed = null; // changes that came while the document is on its way
    this.at = -1;
    this.hovered = -1;
    this.phase = "";
    this.matches = null;
    this.looks = JSON.parse(root.dataset.looks);
    this.listen();
  }

  /** The document, and on top of it what the stream said since it was asked for. Where it can't be had it is
   *  asked for again until it can: deltas alone would leave the map wrong for ever. */
  async load() {
    this.asked = true;
    if (this.missed) return; // on its way already, and asked for once more when it is here
    this.missed = [];
    while (this.asked) {
      this.asked = false;
      this.read(await this.fetched());
    }
    const missed = this.missed;
    this.missed = null;
    for (const changes of missed) this.apply(changes);
    this.sayNode();
  }

  async fetched() {
    for (let wait = AGAIN; ; wait = Math.min(2 * wait, LONGEST_AGAIN)) {
      this.missed.length = 0;
      try {
        const answer = await fetch(this.root.dataset.map, {
          credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE),
        });
        if (answer.ok) {
          const map = await answer.json();
          if (wait > AGAIN) this.say(""); // it could not be had before
          return map;
        }
      } catch {
        // No network at the moment.
      }
      this.say("The map could not be loaded; the counts by cabinet (below) tell the same.");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  read(map) {
    const selected = this.nodes[this.at]?.name ?? this.root.dataset.selected;
    this.began = map.began;
    this.nodes = [];
    this.byName = new Map();
    for (const set of map.sets) {
      const names = set.nodes ? set.nodes.split(" ") : [];
      names.forEach((name, place) => {
        const phases = {};
        for (const phase of set.phases) phases[phase.name] = phase.letters[place];
        const node = { name, set: set.name, phases, since: set.since[place] };
        this.byName.set(`${set.name} ${name}`, node);
        this.nodes.push(node);
      });
    }
    this.root.querySelector(".map-skeleton")?.remove();
    this.canvas.hidden = false;
    if (this.fits) this.matches = this.nodes.map((node) => this.fits(node.name));
    this.at = this.nodes.findIndex((node) => node.name === selected);
    this.arrange();
  }

  // -- drawing --

  arrange() {
    const width = this.canvas.clientWidth;
    if (!width || !this.nodes.length) return;
    this.width = width;
    this.plan = layOut(this.nodes, width);
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.plan.height * ratio);
    this.canvas.style.height = `${this.plan.height}px`;
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.colours = this.readColours();
    this.draw();
  }

  /** light-dark() is resolved by asking an element, not by reading the variable. */
  readColours() {
    const probe = document.createElement("span");
    probe.hidden = true;
    probe.className = "own-colours"; // also where the system takes those of text
    this.root.append(probe);
    const colour = (text) => {
      probe.style.color = text;
      return getComputedStyle(probe).color;
    };
    const found = { ink: colour("var(--ink)"), muted: colour("var(--muted)"), surface: colour("var(--surface)"), focus: colour("var(--focus)") };
    for (const [word, [, tone]] of Object.entries(this.looks)) {
      found[word] = { fill: colour(`var(--${tone}-fill)`), ink: colour(`var(--${tone}-ink)`) };
    }
    probe.remove();
    return found;
  }

  draw() {
    const { pen, plan } = this;
    pen.globalAlpha = 1;
    pen.clearRect(0, 0, this.width, plan.height);
    pen.fillStyle = this.colours.muted;
    pen.font = "11px " + getComputedStyle(document.body).fontFamily;
    pen.textBaseline = "alphabetic";
    for (const label of plan.labels) pen.fillText(label.text, label.x, label.y);
    this.nodes.forEach((_, place) => this.cell(place));
    this.ring();
  }

  cell(place) {
    const { pen, plan } = this;
    const size = plan.size;
    const [x, y] = plan.places[place];
    const word = LETTERS[this.letter(this.nodes[place])];
    const { fill, ink } = this.colours[word];
    pen.globalAlpha = 1;
    pen.clearRect(x - 0.5, y - 0.5, size + 1, size + 1);
    pen.globalAlpha = this.matches && !this.matches[place] ? 0.15 : 1;
    pen.fillStyle = fill;
    const line = Math.max(1, Math.floor(size / 8));
    // A shape for each category, so that colour is never alone.
    if (word === "succeeded") {
      pen.fillRect(x, y, size, size);
    } else if (word === "in_progress") {
      pen.fillRect(x, y + Math.floor(size / 2), size, Math.ceil(size / 2));
      if (size >= 7) this.frame(x, y, size, line, fill);
      else this.dimTop(x, y, size);
    } else if (word === "failed") {
      pen.fillRect(x, y, size, size);
      if (size < 7) return this.square(x - 0.5, y - 0.5, size + 1);
      pen.strokeStyle = this.colours.surface;
      pen.lineWidth = Math.max(1.2, size / 8);
      const inset = size * 0.22;
      pen.beginPath();
      pen.moveTo(x + inset, y + inset);
      pen.lineTo(x + size - inset, y + size - inset);
      pen.moveTo(x + size - inset, y + inset);
      pen.lineTo(x + inset, y + size - inset);
      pen.stroke();
    } else if (word === "excluded") {
      pen.fillStyle = ink;
      pen.fillRect(x + size * 0.15, y + size / 2 - line / 2, size * 0.7, Math.max(1, line));
    } else {
      this.frame(x, y, size, line, fill);
    }
    pen.globalAlpha = 1;
  }

  /** A cross would not be seen: full and a little larger than the others. */
  square(x, y, size) {
    this.pen.fillRect(x, y, size, size);
    this.pen.globalAlpha = 1;
  }

  /** Where a frame would be noise: the upper half, faint. */
  dimTop(x, y, size) {
    const { pen } = this;
    pen.globalAlpha *= 0.4;
    pen.fillRect(x, y, size, Math.floor(size / 2));
  }

  frame(x, y, size, line, colour) {
    const { pen } = this;
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.strokeRect(x + line / 2, y + line / 2, size - line, size - line);
  }

  ring() {
    for (const [place, colour] of [[this.at, this.colours.focus], [this.hovered, this.colours.ink]]) {
      if (place < 0 || !this.plan.places[place]) continue;
      const [x, y] = this.plan.places[place];
      this.pen.strokeStyle = colour;
      this.pen.lineWidth = 2;
      this.pen.strokeRect(x - 1, y - 1, this.plan.size + 2, this.plan.size + 2);
    }
  }

  /** The ring leaves a cell: what it covered, its neighbours' edges too, is drawn again. */
  unring(place) {
    if (place >= 0) {
      const { pen, plan } = this;
      const [x, y] = plan.places[place];
      const reach = plan.size + plan.gap + 2;
      pen.clearRect(x - 2, y - 2, plan.size + 4, plan.size + 4);
      plan.places.forEach(([left, top], near) => {
        if (Math.abs(left - x) <= reach && Math.abs(top - y) <= reach) this.cell(near);
      });
    }
    this.ring();
  }

  // -- what a node is --

  /** Over all phases: failed before in progress before the rest; between two phases it is in progress. */
  letter(node) {
    if (this.phase) return node.phases[this.phase] ?? "e";
    const letters = Object.values(node.phases);
    if (letters.includes("f")) return "f";
    if (letters.includes("i")) return "i";
    if (letters.includes("e")) return "e";
    if (letters.every((letter) => letter === "s")) return "s";
    return letters.includes("s") ? "i" : "n";
  }

  describe(node) {
    const words = Object.entries(node.phases).map(([phase, letter]) => {
      const word = LETTERS[letter];
      return `${phase} ${this.looks[word][0]} ${this.looks[word][2]}`;
    });
    const since = node.since >= 0 ? `, ${ago(new Date((this.began + node.since) * 1000))}` : "";
    return `${node.name}: ${words.join(" · ")}${since}`;
  }

  say(text) {
    if (this.said) this.said.textContent = text;
  }

  /** The node that is selected, as it is now. */
  sayNode() {
    if (this.at >= 0) this.say(this.describe(this.nodes[this.at]));
  }

  // -- changes --

  /** `changes`: {"set/phase": {category: [names]}}, as the engine tells them. */
  apply(changes) {
    if (this.missed) {
      this.missed.push(changes);
      return;
    }
    const now = Math.floor(Date.now() / 1000) - (this.began ?? 0);
    const touched = new Set();
    for (const [where, categories] of Object.entries(changes ?? {})) {
      const cut = where.lastIndexOf("/");
      for (const [word, names] of Object.entries(categories)) {
        for (const name of names) {
          const node = this.byName?.get(`${where.slice(0, cut)} ${name}`);
          if (!node) continue;
          node.phases[where.slice(cut + 1)] = LETTER_OF[word];
          node.since = now;
          touched.add(node);
        }
      }
    }
    if (!this.plan || !touched.size) return;
    this.nodes.forEach((node, place) => touched.has(node) && this.cell(place));
    this.ring();
    if (touched.has(this.nodes[this.at])) this.sayNode();
    if (touched.has(this.nodes[this.hovered])) this.tip.textContent = this.describe(this.nodes[this.hovered]);
  }

  select(place, open = true) {
    if (place < 0 || place >= this.nodes.length) return;
    const left = this.at;
    this.at = place;
    if (this.plan) this.unring(left);
    this.sayNode();
    if (!open) return;
    const node = this.nodes[place];
    const link = this.root.dataset.node.replace("NAME", encodeURIComponent(node.name));
    window.htmx?.ajax("GET", link, { target: "#node-panel", swap: "innerHTML" });
    const url = new URL(location.href);
    url.searchParams.set("node", node.name);
    history.replaceState(history.state, "", url);
  }

  // -- hands --

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("click", (event) => {
      const place = this.placeAt(event);
      if (place >= 0) this.select(place);
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.canvas.clientWidth !== this.width && this.arrange()).observe(this.root);
    document.addEventListener("muster:theme", () => setTimeout(() => this.arrange()));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.arrange());
    document.addEventListener("muster:gap", () => this.load());
    onEvent(({ area, name, subject, data }) => {
      if (area === "node" && name === "node_phases" && subject === this.root.dataset.session) this.apply(data.changes);
    });
    const card = this.root.closest(".card");
    const find = card?.querySelector("[data-map-find]");
    find?.addEventListener("input", () => this.dim(find.value));
    card?.querySelector("[data-map-phase]")?.addEventListener("change", (event) => {
      this.phase = event.target.value;
      this.draw();
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("[data-show-on-map]");
      if (!link || !find) return;
      event.preventDefault();
      find.value = link.dataset.showOnMap;
      this.dim(find.value);
      this.root.scrollIntoView({ block: "nearest" });
    });
  }

  dim(text) {
    this.fits = text.trim() ? matcher(text) : null;
    this.matches = this.fits ? this.nodes.map((node) => this.fits(node.name)) : null;
    if (this.plan) this.draw();
    const count = this.matches?.filter(Boolean).length;
    this.say(this.matches ? `${count} of ${this.nodes.length} nodes match` : "");
  }

  placeAt(event) {
    if (!this.plan) return -1;
    const box = this.canvas.getBoundingClientRect();
    const [x, y, size] = [event.clientX - box.left, event.clientY - box.top, this.plan.size + this.plan.gap];
    return this.plan.places.findIndex(([left, top]) => x >= left && x < left + size && y >= top && y < top + size);
  }

  hover(event) {
    const place = event ? this.placeAt(event) : -1;
    if (place !== this.hovered) {
      const left = this.hovered;
      this.hovered = place;
      if (this.plan) this.unring(left);
    }
    this.tip.hidden = place < 0;
    if (place < 0) return;
    this.tip.textContent = this.describe(this.nodes[place]);
    const [x, y] = this.plan.places[place];
    const room = this.root.clientWidth - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(4, Math.min(x + 16, room))}px`;
    this.tip.style.top = `${y + this.canvas.offsetTop + this.plan.size + 6}px`;
  }

  key(event) {
    if (!this.plan) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.select(Math.max(0, this.at));
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      this.select(event.key === "Home" ? 0 : this.nodes.length - 1, false);
    } else if (steps[event.key]) {
      event.preventDefault();
      this.select(this.at < 0 ? 0 : this.nextTo(this.at, steps[event.key]), false);
    }
  }

  /** The nearest cell in that direction; distance across it counts more than along it. */
  nextTo(from, [dx, dy]) {
    const [x, y] = this.plan.places[from];
    let best = from;
    let least = Infinity;
    this.plan.places.forEach(([left, top], place) => {
      const along = dx ? (left - x) * dx : (top - y) * dy;
      if (along <= 0) return;
      const distance = along + 8 * Math.abs(dx ? top - y : left - x);
      if (distance < least) [least, best] = [distance, place];
    });
    return best;
  }
}
