// Where each node's cell stands: cabinets side by side, a row for each chassis, slots apart.

const XNAME = /^x(\d+)c(\d+)s(\d+)b(\d+)n(\d+)$/;
const TALLEST = 560;
const LABEL = 16;
const PER_ROW = 32; // of nodes whose names tell no place

/** {size, gap, height, labels: [{text, x, y}], places: [[x, y]]}; the largest cells that fit. */
export function layOut(nodes, width) {
  const blocks = blocksOf(nodes);
  for (const size of [26, 22, 18, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4]) {
    const plan = arrange(blocks, nodes.length, width, size);
    // A handful of nodes needs no giants.
    if (plan && (plan.height <= (size > 18 ? TALLEST / 4 : TALLEST) || size === 4)) return plan;
  }
  return arrange(wrapped(blocks, width), nodes.length, width, 4);
}

/** Block: {label, rows: [[{place, column}]]} with columns in cells, half a cell between slots. */
function blocksOf(nodes) {
  const blocks = new Map();
  nodes.forEach((node, place) => {
    const match = XNAME.exec(node.name);
    const label = match ? `x${match[1]}` : node.name.replace(/\d.*$/, "") || "nodes";
    if (!blocks.has(label)) blocks.set(label, { label, known: Boolean(match), members: [] });
    blocks.get(label).members.push({ place, numbers: match?.slice(2).map(Number) ?? [], name: node.name });
  });
  const sorted = [...blocks.values()].sort((a, b) => a.label.localeCompare(b.label, "en", { numeric: true }));
  return sorted.map((block) => ({ label: block.label, rows: block.known ? chassisRows(block.members) : plainRows(block.members) }));
}

function chassisRows(members) {
  members.sort((a, b) => {
    for (let level = 0; level < 4; level++) if (a.numbers[level] !== b.numbers[level]) return a.numbers[level] - b.numbers[level];
    return 0;
  });
  const rows = new Map();
  for (const member of members) {
    const [chassis, slot] = member.numbers;
    if (!rows.has(chassis)) rows.set(chassis, { cells: [], slot, column: 0 });
    const row = rows.get(chassis);
    if (slot !== row.slot) row.column += 0.5;
    row.slot = slot;
    row.cells.push({ place: member.place, column: row.column });
    row.column += 1;
  }
  return [...rows.values()].map((row) => row.cells);
}

function plainRows(members) {
  members.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const rows = [];
  members.forEach((member, index) => {
    if (index % PER_ROW === 0) rows.push([]);
    rows.at(-1).push({ place: member.place, column: index % PER_ROW });
  });
  return rows;
}

/** Rows too wide for the narrowest screen go on beneath. */
function wrapped(blocks, width) {
  const most = Math.floor(width / 5) - 1;
  return blocks.map((block) => ({
    label: block.label,
    rows: block.rows.flatMap((row) => {
      const rows = [];
      row.forEach((cell, index) => {
        if (index % most === 0) rows.push([]);
        rows.at(-1).push({ place: cell.place, column: index % most });
      });
      return rows;
    }),
  }));
}

function arrange(blocks, count, width, size) {
  const gap = size >= 12 ? 3 : size >= 7 ? 2 : 1;
  const step = size + gap;
  const between = Math.max(14, step * 1.5);
  const places = new Array(count);
  const labels = [];
  let [x, y, lowest] = [2, 2, 0];
  for (const block of blocks) {
    const wide = Math.max(...block.rows.map((row) => (row.at(-1)?.column ?? 0) + 1)) * step;
    if (wide > width - 4) return null;
    if (x > 2 && x + wide > width - 2) [x, y] = [2, lowest];
    labels.push({ text: block.label, x, y: y + 11 });
    block.rows.forEach((row, line) => {
      for (const cell of row) places[cell.place] = [Math.round(x + cell.column * step), y + LABEL + line * step];
    });
    lowest = Math.max(lowest, y + LABEL + block.rows.length * step + 10);
    x += Math.max(wide, block.label.length * 7) + between;
  }
  return { size, gap, height: Math.ceil(lowest), labels, places };
}
