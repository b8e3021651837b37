// Names for fields of Django's own widgets that have none, so that a screen reader can say them.

const named = (field) => field.labels?.length || field.hasAttribute("aria-label");

function name() {
  for (const field of document.querySelectorAll(".vDateField, .vTimeField, .select2-search__field")) {
    if (named(field)) continue;
    const row = field.closest(".form-row, .fieldBox, td");
    const words = row?.querySelector("label, legend")?.textContent.replace(/:\s*$/, "").trim();
    const kind = field.matches(".vDateField") ? ", date" : field.matches(".vTimeField") ? ", time" : "";
    field.setAttribute("aria-label", `${words ?? "Search"}${kind}`);
  }
  // Select2 puts the cross that empties a field among the items of its list.
  document.querySelectorAll("ul > .select2-selection__clear").forEach((cross) => cross.setAttribute("role", "listitem"));
  document.querySelectorAll(".help-tooltip[aria-label]:not([role])").forEach((icon) => icon.setAttribute("role", "img"));
}

name();
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
