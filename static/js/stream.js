// Reads one server-sent event stream with fetch: every event name is heard, the cursor survives
// reconnects and restarts, and a refusal (401, 403) is told from a server that is away.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;
const SILENCE = 45000; // the server comments at least every 15 s; longer silence is a dead connection

/** One event: {id, event, data} with data as text. Lines may end in CR LF. */
export function parseEvent(block) {
  const event = { id: null, event: "message", data: "" };
  const data = [];
  for (const line of block.split("\n")) {
    if (!line || line.startsWith(":")) continue;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    else if (field === "event") event.event = value;
    else if (field === "id") event.id = value;
  }
  event.data = data.join("\n");
  return data.length || event.id !== null ? event : null;
}

/** Follows `url` from `cursor` on for ever; calls `onEvent(event)` and `onState("live"|"reconnecting"|"refused")`. */
export class Stream {
  constructor(url, cursor, onEvent, onState) {
    Object.assign(this, { url, cursor, onEvent, onState, wait: FIRST_WAIT, stopped: false });
    this.run();
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
  }

  /** The network is back: don't sit out the wait. */
  hurry() {
    this.wait = FIRST_WAIT;
    this.wake?.();
  }

  async run() {
    while (!this.stopped) {
      const refused = await this.connect().catch(() => false);
      if (this.stopped) return;
      if (refused) {
        this.onState("refused");
        return;
      }
      this.onState("reconnecting");
      await new Promise((resolve) => {
        this.wake = resolve;
        // Spread out, so that a thousand browsers don't return in the same moment after a restart.
        setTimeout(resolve, this.wait * (0.5 + Math.random() / 2));
      });
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    }
  }

  async connect() {
    this.abort = new AbortController();
    const headers = { Accept: "text/event-stream" };
    if (this.cursor !== null && this.cursor !== "") headers["Last-Event-ID"] = String(this.cursor);
    const response = await fetch(this.url, {
      headers, credentials: "same-origin", cache: "no-store", signal: this.abort.signal,
    });
    if (response.status === 401 || response.status === 403) return true;
    if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) return false;
    this.wait = FIRST_WAIT;
    this.onState("live");
    await this.read(response.body.getReader());
    return false;
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    let timer = null;
    this.run = []; // a run that a broken connection cut comes again
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.abort.abort(), SILENCE);
    };
    try {
      for (;;) {
        listen();
        const { done, value } = await reader.read();
        if (done) return;
        rest = (rest + decoder.decode(value, { stream: true })).replace(/\r\n?/g, "\n");
        let end;
        while ((end = rest.indexOf("\n\n")) >= 0) {
          const event = parseEvent(rest.slice(0, end));
          rest = rest.slice(end + 2);
          if (event) this.take(event);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  take(event) {
    if (event.event === "stream-error") {
      this.stop();
      this.onState("refused");
      return;
    }
    if (event.id !== null && event.id !== "") this.cursor = event.id;
    if (event.event === "keep-alive" || event.event === "stream-open") return;
    // Runs of deltas carry an id at their end only, and it is that of all of them: who has seen a part of a
    // run only needs it whole.
    this.run.push(event);
    if (!event.id) return;
    for (const one of this.run.splice(0)) this.onEvent({ ...one, number: numberOf(event.id) });
  }
}

/** The number in an event's id, for ordering; ids are `channel:number,…`, the numbers all alike. */
export function numberOf(id) {
  const match = /(\d+)\s*$/.exec(id ?? "");
  return match ? Number(match[1]) : 0;
}
