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

// Hides what does not hold the words typed; says how many are left.
for (const field of document.querySelectorAll("input[data-what]")) {
  field.oninput = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean), all = document.querySelectorAll(field.dataset.what);
    for (const element of all) {
      const text = (element.querySelector("summary") ?? element).textContent.toLowerCase();
      element.hidden = !words.every((word) => text.includes(word));
    }
    const rows = [...all].filter((element) => element.tagName === "TR"), left = rows.filter((row) => !row.hidden);
    field.closest("p").querySelector("output").textContent = words.length ? `${left.length} of ${rows.length}` : "";
  };
}

// A link into something folded away opens it; so does printing, for the time it takes.
const open = () => {
  const found = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (found && found.tagName === "DETAILS") found.open = true;
};
addEventListener("hashchange", open);
open();
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const element of folded) element.open = true;
});
addEventListener("afterprint", () => {
  for (const element of folded) element.open = false;
});
