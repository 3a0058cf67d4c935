// Sorts a table by the clicked heading: by data-v where a cell has one, else by its text; empty cells last.
for (const button of document.querySelectorAll("th button")) {
  button.onclick = () => {
    const heading = button.closest("th"), table = heading.closest("table"), row = heading.parentNode;
    const column = [...row.children].indexOf(heading);
    const sign = heading.getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const other of row.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (cells) => cells[column].dataset.v ?? cells[column].textContent;
    const number = (text) => (text === "" || isNaN(text) ? null : Number(text));
    const compare = (first, second) => {
      const a = value(first.cells), b = value(second.cells), x = number(a), y = number(b);
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (x !== null && y !== null ? x - y : a.localeCompare(b));
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  };
}
