// Keeps what is on the page current. The stream says *that* something changed; parts marked with
// data-live fetch themselves again (htmx), the node map takes the change from the event itself.
//
//   <section data-live="session:UUID node" hx-get="…" hx-trigger="refresh" hx-swap="innerMorph">

import { Stream, numberOf } from "./stream.js";
import { ago } from "./times.js";

const AT_MOST_EVERY = 1000;
const SHARE = 8; // a part that took 1 s to fetch is fetched every 8 s at most: a slow server gets room
const POLL = 20000; // while there is no stream
const AGAIN = 3000; // where a part could not be fetched
const listeners = new Set();
let seen = 0;
let state = "reconnecting";
let since = Date.now();
let heard = 0; // when the last event came
let port = null;

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

/** `take({name, area, subject, data})` for each event from now on; answers a function that ends it. */
export function onEvent(take) {
  listeners.add(take);
  return () => listeners.delete(take);
}

/** Something may have been missed: everything live on this page is fetched again. */
export function refreshAll() {
  document.querySelectorAll("[data-live]").forEach(refreshSoon);
  document.dispatchEvent(new CustomEvent("muster:gap"));
}

export function startLive() {
  const url = meta("muster-stream");
  if (!url) return;
  seen = numberOf(meta("muster-cursor"));
  measure();
  const hello = { kind: "hello", url, cursor: meta("muster-cursor"), who: meta("muster-who") };
  if (typeof SharedWorker === "undefined") {
    const stream = new Stream(url, hello.cursor, take, show);
    addEventListener("online", () => stream.hurry());
    addEventListener("pagehide", () => stream.stop());
  } else {
    const worker = new SharedWorker(new URL("./stream-worker.js", import.meta.url), { type: "module", name: "muster" });
    port = worker.port;
    port.onmessage = ({ data }) => {
      if (data.kind === "event") take(data.event);
      else if (data.kind === "state") show(data.state);
      else if (data.kind === "gap") refreshAll();
    };
    join(hello);
    addEventListener("online", () => port.postMessage({ kind: "hurry" }));
    addEventListener("pagehide", () => port.postMessage({ kind: "bye" }));
    // Back from the browser's page cache: what happened meanwhile is unknown here.
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      join({ ...hello, cursor: String(seen) });
      refreshAll();
    });
  }
  setInterval(draw, 1000);
  setInterval(() => {
    if (state !== "live" && Date.now() - since > POLL) refreshAll();
  }, POLL);
}

/** Says hello to the worker, under a lock that tells it when this tab is no more, even if it crashed. */
function join(hello) {
  const lock = `muster-tab-${Date.now()}-${Math.random()}`;
  if (!navigator.locks) {
    port.postMessage(hello);
    return;
  }
  navigator.locks.request(lock, () => {
    port.postMessage({ ...hello, lock });
    return new Promise((release) => addEventListener("pagehide", release, { once: true }));
  });
}

/** The event in the form that this page's parts understand; null for what is none of ours. */
function read(event) {
  if (event.event === "stream-reset") {
    refreshAll();
    return null;
  }
  let body;
  try {
    body = JSON.parse(event.data);
  } catch {
    return null;
  }
  if (!body || typeof body !== "object" || !body.area) return null;
  return { name: event.event, area: body.area, subject: body.subject ?? "", data: body };
}

function take(event) {
  // After a reset numbers may be lower than before: the server's history is another one.
  if (event.number <= seen && event.event !== "stream-reset") return;
  if (event.id) seen = event.number; // the last of a run has the id
  heard = Date.now();
  const news = read(event);
  if (!news) return;
  for (const listener of listeners) listener(news);
  for (const part of document.querySelectorAll("[data-live]")) {
    const wanted = part.dataset.live.split(" ");
    if (wanted.includes(news.area) || wanted.includes(`${news.area}:${news.subject}`)) refreshSoon(part);
  }
}

const waiting = new WeakMap();

/** At most once a second a part (or what data-pace says), not in a tab that nobody sees, and never under the
 *  pointer where rows would move away from it. */
function refreshSoon(part) {
  if (waiting.has(part)) return;
  const last = Number(part.dataset.refreshed ?? 0);
  const pace = Math.max(Number(part.dataset.pace ?? AT_MOST_EVERY), SHARE * Number(part.dataset.took ?? 0));
  waiting.set(part, setTimeout(() => refresh(part), Math.max(50, last + pace - Date.now())));
}

function refresh(part) {
  if (!part.isConnected) return;
  if (document.hidden) {
    document.addEventListener("visibilitychange", () => refresh(part), { once: true });
    return;
  }
  if (part.hasAttribute("data-still") && part.matches(":hover")) {
    part.dataset.held = "";
    part.addEventListener("pointerleave", () => {
      delete part.dataset.held;
      refresh(part);
    }, { once: true });
    return;
  }
  waiting.delete(part);
  part.dataset.refreshed = Date.now();
  window.htmx?.trigger(part, "refresh");
}

/** How long a part's fetching took, for its pace; and whether it must be done again. */
function measure() {
  document.addEventListener("htmx:after:request", (event) => {
    const part = event.detail?.ctx?.sourceElement;
    if (part?.dataset?.refreshed) part.dataset.took = Date.now() - Number(part.dataset.refreshed);
  });
  // No network for a moment: without another event the part would stay as it was.
  document.addEventListener("htmx:error", (event) => {
    const part = event.detail?.ctx?.sourceElement;
    if (part?.dataset?.refreshed) setTimeout(() => refreshSoon(part), AGAIN);
  });
}

function show(now) {
  if (now !== state) since = Date.now();
  if (now === "live" && state === "refused") refreshAll();
  state = now;
  draw();
}

const LOOKS = {
  live: ["●", "live", "green"],
  reconnecting: ["◐", "reconnecting", "amber"],
  refused: ["◌", "signed out", "violet"],
};

function draw() {
  const badge = document.getElementById("live");
  if (!badge) return;
  let [glyph, word, tone] = LOOKS[state];
  if (state === "reconnecting" && Date.now() - since > 10000) {
    const at = new Date(since).toISOString().slice(11, 16);
    [glyph, word, tone] = ["◌", `stale since ${at} UTC`, "violet"];
  }
  if (badge.dataset.word !== word) {
    badge.dataset.word = word;
    badge.className = `live tone-${tone}`;
    const parts = [glyph, word].map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    parts[0].ariaHidden = "true";
    parts[1].className = "word";
    badge.replaceChildren(...parts);
  }
  // The exact time behind the word, for who points at it; never read out.
  badge.title = state === "live" && heard ? `live; last change ${ago(new Date(heard))}` : word;
  if (badge.dataset.state === state) return;
  badge.dataset.state = state;
}

// Numbers that changed flash once. Marked by data-key, compared before and after a swap.
export function flashChanges() {
  let before = new Map();
  const collect = (root) => {
    const found = new Map();
    root?.querySelectorAll?.("[data-key]").forEach((part) => found.set(part.dataset.key, part.textContent));
    return found;
  };
  document.addEventListener("htmx:before:swap", () => {
    before = collect(document.body);
  });
  document.addEventListener("htmx:after:swap", () => {
    document.body.querySelectorAll("[data-key]").forEach((part) => {
      const old = before.get(part.dataset.key);
      if (old === undefined || old === part.textContent) return;
      part.classList.remove("flash");
      void part.offsetWidth;
      part.classList.add("flash");
    });
  });
}
