// Whether a name is in a typed set: names, ranges, wildcards, parts of a place. The small sister of
// the server's nodeset.py, for dimming the map while somebody types.

/** A function name → boolean. What can't be read yet (an open bracket) matches by its beginning. */
export function matcher(text) {
  const items = text.toLowerCase().split(/[\s,]+(?![^[]*\])/).filter(Boolean).map(item);
  return (name) => items.some((fits) => fits(name));
}

function item(text) {
  const ranges = [];
  const pattern = text
    .replace(/\[([^\]]*)(\]|$)/g, (_, inside) => {
      ranges.push(inside.split(",").filter(Boolean).map((part) => part.split("-").map(Number)));
      return "\u0000";
    })
    .replace(/[.+^${}()|\\]/g, "\\$&")
    .replace(/\*/g, ".*")
    .replace(/\?/g, ".")
    .replace(/\u0000/g, "(\\d+)");
  // A part of a place means everything in it: x1000 does not mean x10001.
  const expression = new RegExp(`^${pattern}(?![0-9])`);
  return (name) => {
    const match = expression.exec(name);
    return Boolean(match) && ranges.every((parts, index) => {
      const number = Number(match[index + 1]);
      return !parts.length || parts.some(([first, last = first]) => number >= first && number <= last);
    });
  };
}
