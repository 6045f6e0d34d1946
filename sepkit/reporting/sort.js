// Each heading becomes a button that sorts its table: numbers from the highest, words from A; again, the other way.
for (const table of document.querySelectorAll(".sepkit-sort:not([data-sorts])")) {
  table.dataset.sorts = "";
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => row.cells[column].firstChild?.textContent.replace("−", "-").replace("< ", "") ?? "";
  heads.forEach((head, column) => {
    const number = head.classList.contains("number"), button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const first = number ? "descending" : "ascending", other = number ? "ascending" : "descending";
      const order = head.ariaSort === first ? other : first, sign = order === "ascending" ? 1 : -1;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.ariaSort = order;
      const compare = (one, two) => {
        const [a, b] = [value(one, column), value(two, column)];
        if (a === "—" || b === "—") return (a === "—") - (b === "—");  // last in both orders
        return sign * (number ? parseFloat(a) - parseFloat(b) : a.localeCompare(b, undefined, { numeric: true }));
      };
      body.append(...[...body.rows].sort(compare));
    };
  });
}
