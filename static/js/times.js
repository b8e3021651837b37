// Times in UTC or the browser's own zone, and how long ago. The server writes UTC; the cookie
// `muster_time` keeps the choice, `?tz=` in the URL overrides it for this page.

const asked = new URLSearchParams(location.search).get("tz");
let mode = asked === "local" || asked === "utc" ? asked : document.documentElement.dataset.time || "utc";

const pad = (number) => String(number).padStart(2, "0");

function dayOf(at) {
  if (mode === "utc") return at.toISOString().slice(0, 10);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

function write(part) {
  const at = new Date(part.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const utc = mode === "utc";
  const day = dayOf(at);
  const clock = utc ? at.toISOString().slice(11, 19) : `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const shape = part.dataset.shape;
  const short = day === dayOf(new Date()) ? clock : `${day.slice(5)} ${clock.slice(0, 5)}`;
  const text = shape === "ago" ? ago(at) : shape === "clock" ? short : `${day} ${clock}`;
  if (part.textContent !== text) part.textContent = text;
  part.title = `${day} ${clock} ${utc ? "UTC" : "local"} (${at.toISOString()})`;
}

/** "12 s ago", "in 3 min". */
export function ago(at) {
  const seconds = Math.round((Date.now() - at.getTime()) / 1000);
  const [value, unit] = spell(Math.abs(seconds));
  if (Math.abs(seconds) < 2) return "just now";
  return seconds < 0 ? `in ${value} ${unit}` : `${value} ${unit} ago`;
}

function spell(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return [Math.floor(seconds / size), unit];
  }
  return [seconds, "s"];
}

export function writeTimes(root = document) {
  root.querySelectorAll("time[datetime]").forEach(write);
  root.querySelectorAll("[data-running-since]").forEach((part) => {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(part.dataset.runningSince)) / 1000));
    const hours = Math.floor(seconds / 3600);
    const text = hours
      ? `${hours}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`
      : `${Math.floor(seconds / 60)}:${pad(seconds % 60)}`;
    if (part.textContent !== text) part.textContent = text;
  });
}

export function startTimes() {
  writeTimes();
  setInterval(writeTimes, 1000);
  document.addEventListener("htmx:after:swap", () => writeTimes());
}

export function setTimeMode(next) {
  mode = next;
  writeTimes();
}
