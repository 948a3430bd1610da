// Filters and sorting of galleries and scoreboards, and the search of a site on disk. Without it everything is there,
// unfiltered, in the book's order.
"use strict";

// A browser lets no page read another one from disk: results are then shown without an excerpt.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

document.addEventListener("DOMContentLoaded", () => {
  const plain = (text) => text.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const items = [...document.querySelectorAll("[data-item]")];
  const texts = new Map(items.map((item) => [item, plain(item.textContent)]));
  // Part captions are shown while the table is in the book's order and the part has rows to show.
  const showParts = (table) => {
    const sorted = table.hasAttribute("data-sorted");
    for (const body of table.tBodies) {
      const caption = body.querySelector(".pr-part");
      if (caption) caption.hidden = sorted || !body.querySelector("[data-item]:not([hidden])");
    }
  };

  for (const form of document.querySelectorAll("[data-filters]")) {
    const search = form.querySelector("[data-filter-text]");
    const selects = [...form.querySelectorAll("select[data-filter]")];
    const count = form.querySelector("[data-count]");

    const apply = () => {
      const words = plain(search.value).split(/\s+/).filter(Boolean);
      for (const item of items) {
        const chosen = selects.every((select) => {
          const key = select.dataset.filter;
          return !select.value || !(key in item.dataset) || item.dataset[key].split("|").includes(select.value);
        });
        item.hidden = !(chosen && words.every((word) => texts.get(item).includes(word)));
      }
      document.querySelectorAll("[data-board]").forEach(showParts);
      const rows = items.filter((item) => item.dataset.item === "row");
      const shown = rows.filter((item) => !item.hidden).length;
      count.textContent = `${shown} of ${rows.length} claims`;
    };

    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  for (const table of document.querySelectorAll("[data-board]")) {
    const home = [...table.tBodies].map((body) => [body, [...body.rows]]);
    const headings = [...table.tHead.rows[0].cells];

    const sort = (heading) => {
      // First click sorts (numbers: largest first), second reverses, third returns to the book's order.
      const numeric = heading.dataset.sort === "number";
      const cycle = [null, ...(numeric ? ["descending", "ascending"] : ["ascending", "descending"])];
      const order = cycle[(cycle.indexOf(heading.getAttribute("aria-sort")) + 1) % cycle.length];
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      for (const [body, rows] of home) body.append(...rows);
      table.toggleAttribute("data-sorted", Boolean(order));
      if (order) {
        heading.setAttribute("aria-sort", order);
        const column = headings.indexOf(heading);
        const sign = order === "ascending" ? 1 : -1;
        const value = (row) => row.cells[column].dataset.value;
        const compare = numeric
          ? (a, b) => Number(value(a)) - Number(value(b))
          : (a, b) => value(a).localeCompare(value(b));
        const rows = home.flatMap(([, group]) => group).filter((row) => !row.matches(".pr-part"));
        home[0][0].append(...rows.sort((a, b) => sign * compare(a, b)));
      }
      showParts(table);
    };

    for (const heading of headings) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.firstChild.textContent;
      heading.firstChild.replaceWith(button);
      button.addEventListener("click", () => sort(heading));
    }
  }
});
