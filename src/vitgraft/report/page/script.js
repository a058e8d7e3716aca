"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Tables: a header's button sorts the rows; what is missing stays last.
  const worth = (row, index, number) => {
    const cell = row.cells[index], text = cell.dataset.v ?? cell.textContent.trim();
    return number ? parseFloat(text.replace(/,/g, "")) : text === "–" ? "" : text.toLowerCase();
  };
  const missing = (value) => value === "" || Number.isNaN(value);
  const order = new Intl.Collator(undefined, {numeric: true}).compare;
  const sort = (header) => {
    const table = header.closest("table"), number = header.classList.contains("number");
    const before = header.getAttribute("aria-sort");
    const down = before === "none" ? number : before === "ascending";
    all("th[aria-sort]", table).forEach((one) => one.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [row, worth(row, header.cellIndex, number)]);
    rows.sort(([, a], [, b]) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return (down ? -1 : 1) * (number ? a - b : order(a, b));
    });
    table.tBodies[0].append(...rows.map(([row]) => row));
  };
  all("table.sorts th[aria-sort] button").forEach((button) =>
    button.addEventListener("click", () => sort(button.closest("th"))));

  // Fields that filter a table: a row is shown if it holds every word.
  const filter = (field) => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.getElementById(field.dataset.filters).tBodies[0].rows];
    for (const row of rows) {
      row.text ??= row.textContent.toLowerCase();
      row.hidden = !words.every((word) => row.text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    const count = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    field.closest(".filter").querySelector("output").textContent = count;
  };
  all("input[data-filters]").forEach((field) => field.addEventListener("input", () => filter(field)));
})();
