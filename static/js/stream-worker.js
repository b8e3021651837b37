// One stream for all tabs of a browser. Each tab says who it is and what it has seen; it gets what
// came since from the last events kept here, or is told to draw itself anew.

import { Stream, numberOf } from "./stream.js";

const KEPT = 4_000_000; // characters of events: a delta of 10,000 nodes has 150,000
const ports = new Set();
let kept = [];
let size = 0;
let keptFrom = 0; // everything after this number is in `kept`
let stream = null;
let who = null;
let state = "reconnecting";

function tell(message) {
  for (const port of ports) port.postMessage(message);
}

function open(hello) {
  stream?.stop();
  who = hello.who;
  kept = [];
  size = 0;
  keptFrom = numberOf(hello.cursor);
  stream = new Stream(
    hello.url,
    hello.cursor,
    (event) => {
      kept.push(event);
      size += event.data.length;
      while (size > KEPT) {
        const gone = kept.shift();
        size -= gone.data.length;
        keptFrom = gone.number;
      }
      tell({ kind: "event", event });
    },
    (now) => {
      state = now;
      tell({ kind: "state", state });
    },
  );
}

/** A tab is gone: said so, or crashed. `lock` is the one under which it came; it may have come back since. */
function leave(port, lock) {
  if (port.lock !== lock) return;
  ports.delete(port);
  if (ports.size) return;
  stream?.stop();
  stream = null;
}

function join(port, hello) {
  ports.add(port);
  port.lock = hello.lock;
  // A tab holds its lock while it lives; the browser gives it to us when it does not, however it ended.
  if (hello.lock) navigator.locks.request(hello.lock, () => leave(port, hello.lock));
  if (!stream || who !== hello.who || state === "refused") {
    open(hello);
    return;
  }
  port.postMessage({ kind: "state", state });
  const seen = numberOf(hello.cursor);
  if (seen < keptFrom) {
    port.postMessage({ kind: "gap" });
    return;
  }
  for (const event of kept) {
    if (event.number > seen) port.postMessage({ kind: "event", event });
  }
}

self.onconnect = (connection) => {
  const port = connection.ports[0];
  port.onmessage = ({ data }) => {
    if (data.kind === "hello") join(port, data);
    else if (data.kind === "hurry") stream?.hurry();
    else if (data.kind === "bye") leave(port, port.lock);
    else if (data.kind === "tabs") port.postMessage({ tabs: ports.size }); // for consoles and tests
  };
  port.onclose = () => leave(port, port.lock); // where there are no locks: plain http, newer browsers
};
