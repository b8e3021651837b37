// Dialogs, toasts, switches, keyboard. Everything here has a plain form beneath it that works without.

import { setTimeMode } from "./times.js";

const dialog = () => document.getElementById("dialog");

/** Links marked data-dialog fetch their page's part into the one dialog instead of leaving the page. */
export function startDialogs() {
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    await openDialog(link.href, link);
  });
  document.addEventListener("click", (event) => {
    const close = event.target.closest("[data-close]");
    if (close && dialog()?.open) {
      event.preventDefault();
      dialog().close();
    }
    if (event.target === dialog()) dialog().close();
  });
}

let opener = null;

async function openDialog(url, link) {
  let answer;
  try {
    answer = await fetch(url, { headers: { "HX-Request": "true", "HX-Target": "dialog" }, credentials: "same-origin" });
  } catch {
    toast("The server can't be reached. Nothing was changed.", "red");
    return;
  }
  if (!answer.ok || answer.redirected) {
    location.href = url;
    return;
  }
  opener = link;
  const shell = dialog();
  shell.querySelector("[data-slot]").innerHTML = await answer.text();
  window.htmx?.process(shell);
  shell.showModal();
  shell.addEventListener("close", () => opener?.isConnected && opener.focus(), { once: true });
  startTypedCounts(shell);
  // Two times Enter destroys nothing: where the answer is dangerous, "Back" has the focus.
  const slot = shell.querySelector("[data-slot]");
  const first = slot.querySelector("button.main.danger") ? "input[data-typed-count], [data-close]" : "input:not([type=hidden]), button.main";
  (slot.querySelector("[autofocus]") ?? slot.querySelector(first))?.focus();
}

/** Where a count must be typed, the button waits for it. The server checks it again. */
export function startTypedCounts(root = document) {
  root.querySelectorAll("input[data-typed-count]").forEach((field) => {
    const button = field.form?.querySelector("button[type=submit].main, button.main");
    const check = () => {
      if (button) button.disabled = field.value.replace(/[\s.,_]/g, "") !== field.dataset.typedCount;
    };
    field.addEventListener("input", check);
    check();
  });
}

export function toast(text, tone = "slate") {
  const box = document.getElementById("toasts");
  const note = document.createElement("div");
  note.className = `toast tone-${tone}`;
  note.append(text);
  const close = document.createElement("button");
  close.className = "plain";
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", "Dismiss");
  close.addEventListener("click", () => note.remove());
  note.append(close);
  box.append(note);
}

export function startToasts() {
  document.addEventListener("click", (event) => event.target.closest("[data-dismiss]")?.closest(".toast")?.remove());
  // What went well leaves by itself; what went wrong stays until it is read.
  setTimeout(() => document.querySelectorAll(".toast.tone-green").forEach((note) => note.remove()), 8000);
  document.addEventListener("htmx:response:error", () => toast("The server refused; the page may be out of date.", "red"));
}

/** Theme and time zone: kept in a cookie, so that the server draws the first frame right. */
export function startSwitches() {
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-switch]");
    if (!form) return;
    event.preventDefault();
    const name = form.dataset.switch;
    const value = event.submitter?.value;
    document.cookie = `muster_${name}=${value}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
    document.documentElement.dataset[name] = value;
    if (name === "time") setTimeMode(value);
    else document.dispatchEvent(new CustomEvent("muster:theme"));
    const button = event.submitter;
    const choices = JSON.parse(form.dataset.choices);
    const next = choices[(choices.findIndex(([key]) => key === value) + 1) % choices.length];
    const now = choices.find(([key]) => key === value);
    button.value = next[0];
    button.querySelector("[data-word]").textContent = now[1];
    button.title = `${form.dataset.label}: ${now[1]}. Switch to ${next[1]}.`;
  });
}

/** Menus are `details`: they close by a click elsewhere, and by Escape, which gives their button the focus back. */
export function startMenus() {
  const open = () => document.querySelectorAll("details:has(> .menu)[open]");
  document.addEventListener("click", (event) => {
    for (const menu of open()) if (!menu.contains(event.target) || event.target.closest(".menu a")) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || dialog()?.open) return;
    for (const menu of open()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}

/** Fields marked data-auto send their form when they change. */
export function startAutoForms() {
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-auto]")) event.target.form?.requestSubmit();
  });
  // What opens to be typed into has the cursor. (toggle does not bubble.)
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.save[open]")) event.target.querySelector("[name=name]").focus();
  }, true);
  document.addEventListener("submit", (event) => {
    // A filter that is not used does not belong into the URL.
    const form = event.target.closest("form[data-clean]");
    form?.querySelectorAll("input, select").forEach((field) => {
      if (!field.value && !field.disabled) {
        field.disabled = true;
        setTimeout(() => (field.disabled = false));
      }
    });
  });
}

const GO = { o: "/", s: "/sessions/", n: "/nodes/", t: "/tasks/", w: "/workflows/", a: "/activity/" };

export function startKeys() {
  let first = null;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable], canvas");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || dialog()?.open) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search")?.focus();
    } else if (event.key === "?") {
      event.preventDefault();
      const help = document.getElementById("help");
      help.open ? help.close() : help.showModal();
    } else if (first === "g" && GO[event.key]) {
      location.href = GO[event.key];
    } else if (event.key === "g") {
      first = "g";
      setTimeout(() => (first = null), 1500);
      return;
    }
    first = null;
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-help]");
    if (button) document.getElementById("help")?.showModal();
    const closes = event.target.closest("[data-close-help]");
    if (closes || event.target.id === "help") document.getElementById("help")?.close();
  });
}

/** Buttons that put a name, an id or a command on the clipboard. */
export function startCopies() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await toClipboard(button.dataset.copy, button);
    button.dataset.done = "";
    setTimeout(() => delete button.dataset.done, 1500);
  });
}

/** Browsers give `navigator.clipboard` to https and localhost only. */
async function toClipboard(text, beside) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "hidden-text" });
  beside.after(field); // inside an open dialog: what is outside of it can't be selected
  field.select();
  document.execCommand("copy");
  field.remove();
  beside.focus();
}

/** The tab's title and its icon say how many things need a person; the rail knows. */
export function startTitle() {
  const plain = document.title;
  const link = document.querySelector("link[rel=icon]");
  if (!link?.dataset.attention) return;
  link.dataset.calm = link.getAttribute("href");
  const write = () => {
    let sum = 0;
    document.querySelectorAll(".rail .count").forEach((count) => (sum += Number.parseInt(count.textContent.replace(/\D/g, ""), 10) || 0));
    const title = sum ? `(${sum}) ${plain}` : plain;
    if (document.title !== title) document.title = title;
    const icon = sum ? link.dataset.attention : link.dataset.calm;
    if (link.getAttribute("href") !== icon) link.setAttribute("href", icon);
  };
  write();
  document.addEventListener("htmx:after:swap", write);
}

/** A form is sent once; coming back by the button "back" frees it again. The server counts, too. */
export function startOnce() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent !== undefined) event.preventDefault();
    form.dataset.sent = "";
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));
}

/** Logs stay at their end until somebody scrolls up. */
export function startLogs() {
  const follow = (log) => log.dataset.away === undefined && (log.scrollTop = log.scrollHeight);
  const watch = (log) => {
    log.addEventListener("scroll", () => {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      if (atEnd) delete log.dataset.away;
      else log.dataset.away = "";
    });
    new MutationObserver(() => follow(log)).observe(log, { childList: true, subtree: true, characterData: true });
    follow(log);
  };
  document.querySelectorAll(".log[data-tail]").forEach(watch);
}
