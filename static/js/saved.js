// Filters that somebody has named, kept in this browser, one list for each page.

import { toast } from "./ui.js";

const keyOf = (page) => `muster:filters:${page}`;

function load(page) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(page))) ?? {};
  } catch {
    return {};
  }
}

export function startSavedFilters() {
  document.querySelectorAll("[data-saved-filters]").forEach(draw);
}

function draw(place) {
  const page = place.dataset.savedFilters;
  const saved = load(page);
  place.replaceChildren();
  for (const [name, query] of Object.entries(saved)) {
    const chip = document.createElement("a");
    chip.className = "chip";
    chip.href = `${location.pathname}?${query}`;
    chip.textContent = `★ ${name}`;
    if (location.search.slice(1) === query) chip.setAttribute("aria-current", "true");
    place.append(chip);
  }
  if (!location.search || location.search.length < 2) return;
  const query = location.search.slice(1);
  const known = Object.keys(saved).find((name) => saved[name] === query);
  place.append(known ? button("Forget this filter", () => change(place, page, known, null)) : saver(place, page, query));
}

function saver(place, page, query) {
  return button("Save this filter…", (event) => {
    const form = document.createElement("form");
    form.className = "chips";
    const field = Object.assign(document.createElement("input"), { required: true, maxLength: 30 });
    field.setAttribute("aria-label", "Name of the filter");
    field.placeholder = "name";
    form.append(field, Object.assign(document.createElement("button"), { textContent: "Save" }));
    form.addEventListener("submit", (sent) => {
      sent.preventDefault();
      change(place, page, field.value.trim(), query);
    });
    event.target.replaceWith(form);
    field.focus();
  });
}

function change(place, page, name, query) {
  const saved = load(page);
  if (query === null) delete saved[name];
  else saved[name] = query;
  try {
    localStorage.setItem(keyOf(page), JSON.stringify(saved));
  } catch {
    toast("This browser keeps nothing; the link in the address bar does the same.", "amber");
  }
  draw(place);
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: text });
  made.addEventListener("click", act);
  return made;
}
