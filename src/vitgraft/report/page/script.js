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

  // What a leading table does not show is faint in the charts.
  const leave = (keys) => {
    for (const one of all("[data-key]")) one.classList.toggle("off", keys.has(one.dataset.key) && !one.matches("tr"));
    all("tr[data-key]").filter((row) => row.closest(".strip")).forEach((row) => (row.hidden = keys.has(row.dataset.key)));
    all(".plane").forEach(place);
  };

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
    if ("leads" in field.dataset) leave(new Set(rows.filter((row) => row.hidden).map((row) => row.dataset.key)));
  };
  all("input[data-filters]").forEach((field) => field.addEventListener("input", () => filter(field)));

  // The plane: each point goes where the chosen axes have it; the front and the names follow.
  const place = (plane) => {
    const chosen = {};
    for (const choice of all("select[data-axis]", plane)) {
      const axis = choice.dataset.axis;
      chosen[axis] = Number(choice.value);
      all(`g[data-axis=${axis}]`, plane).forEach((one, index) => one.toggleAttribute("hidden", index !== chosen[axis]));
    }
    const points = all("a.point", plane).map((link) => {
      const at = (axis) => parseFloat(link.dataset[axis].split(" ")[chosen[axis]]);
      return {link, x: at("x"), y: at("y"), off: link.classList.contains("off")};
    });
    const shown = points.filter(({x, y}) => !Number.isNaN(x + y));
    for (const point of points) point.link.toggleAttribute("hidden", !shown.includes(point));
    const beats = (a, b) => a.x <= b.x && a.y >= b.y && (a.x < b.x || a.y > b.y);
    const able = shown.filter((one) => !one.off);
    const front = able.filter((one) => !able.some((other) => beats(other, one))).sort((a, b) => a.x - b.x || a.y - b.y);
    plane.querySelector("polyline.front").setAttribute("points",
      front.map(({x, y}) => `${100 * x},${100 - 100 * y}`).join(" "));
    for (const point of shown) {
      const mark = point.link.firstElementChild;
      mark.setAttribute("x", `${100 * point.x}%`);
      mark.setAttribute("y", `${100 - 100 * point.y}%`);
      point.link.classList.toggle("front", front.includes(point));
    }
    name(plane.querySelector(".axes"), [...front, ...shown.filter((one) => !front.includes(one))]);
  };

  // Names stand beside their points where they cover nothing; those that find no room are told on hover alone.
  const SIDES = [[9, -5, "start"], [9, 13, "start"], [-9, -5, "end"], [-9, 13, "end"], [0, -11, "middle"], [0, 20, "middle"],
    [9, -17, "start"], [-9, -17, "end"], [9, 25, "start"], [-9, 25, "end"]];
  const name = (chart, points) => {
    const frame = chart.getBoundingClientRect();
    const boxes = points.map(({x, y}) => [x * frame.width - 6, (1 - y) * frame.height - 6, 12, 12]);
    const free = ([x, y, w, h]) => x > -40 && x + w < frame.width + 14 && y > -8 && y + h < frame.height &&
      !boxes.some(([a, b, c, d]) => x < a + c && a < x + w && y < b + d && b < y + h);
    for (const {link, x, y} of points) {
      const text = link.querySelector("text");
      text.removeAttribute("hidden");
      const {width} = text.getBoundingClientRect();
      const boxAt = ([dx, dy, side]) =>
        [x * frame.width + dx - {start: 0, middle: width / 2, end: width}[side], (1 - y) * frame.height + dy - 11, width, 14];
      const side = SIDES.find((one) => free(boxAt(one)));
      text.toggleAttribute("hidden", !side);
      if (!side) continue;
      boxes.push(boxAt(side));
      text.setAttribute("x", side[0]);
      text.setAttribute("y", side[1]);
      text.setAttribute("text-anchor", side[2]);
    }
  };
  all(".plane").forEach((plane) => {
    plane.addEventListener("change", () => place(plane));
    addEventListener("beforeprint", () => { plane.style.width = "56rem"; place(plane); });
    addEventListener("afterprint", () => { plane.style.width = ""; place(plane); });
    new ResizeObserver(() => place(plane)).observe(plane);
  });

  // A choice of what panels show.
  all("select[data-shows]").forEach((choice) => choice.addEventListener("change", () =>
    all("[data-kind]", document.getElementById(choice.dataset.shows))
      .forEach((one) => (one.hidden = one.dataset.kind !== choice.value))));

  // Marks tell themselves where they are pointed at or have the focus, and light all that is of the same row.
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), {id: "tip", hidden: true}));
  tip.setAttribute("aria-hidden", "true");
  const tell = (event) => {
    const focused = document.querySelector("[data-tip]:focus-visible");  // a page that scrolls moves below the mouse
    const at = event.target.closest?.("[data-tip]") ? event.target : focused ?? event.target;
    const mark = at.closest?.("[data-tip]"), keyed = at.closest?.("figure [data-key], .panels [data-key], .key [data-key]");
    all(".lit").forEach((one) => one.classList.remove("lit"));
    all(".dimmed").forEach((one) => one.classList.remove("dimmed"));
    tip.hidden = !mark;
    if (keyed) {
      all(`[data-key="${keyed.dataset.key}"]`).forEach((one) => one.classList.add("lit"));
      all(".plane, #kinds .axes").forEach((one) => one.classList.add("dimmed"));
    }
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = mark.getBoundingClientRect(), mouse = event.type === "mouseover" && mark.matches("polyline");
    const x = mouse ? event.clientX : box.x + box.width / 2, y = mouse ? event.clientY : box.y;
    tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y - tip.offsetHeight - 8 < 0 ? y + 24 : y - tip.offsetHeight - 8}px`;
  };
  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, tell);
  document.addEventListener("focusout", () => (tip.hidden = true));
  document.addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));

  // Of the marks of one chart Tab reaches one, arrows the others.
  for (const chart of all(".roves")) {
    const marks = all("a[data-tip]", chart);
    marks.slice(1).forEach((one) => (one.tabIndex = -1));
    chart.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      const there = marks.filter((one) => !one.closest("[hidden]")), at = there.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = there[(at + step + there.length) % there.length];
      marks.forEach((one) => (one.tabIndex = one === next ? 0 : -1));
      next.focus();
    });
  }

  // Whoever follows a link to runs finds them open.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches("details")) target.open = true;
    if (target.matches("h4")) {
      for (let one = target.nextElementSibling; one?.matches("details"); one = one.nextElementSibling) one.open = true;
    }
    target.scrollIntoView();
    requestAnimationFrame(() => requestAnimationFrame(() => target.scrollIntoView()));  // what it passed is laid out
  };
  addEventListener("hashchange", open);
  open();
})();
