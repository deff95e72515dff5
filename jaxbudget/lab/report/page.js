'use strict';
// Tables sort by a click on a heading and filter by text, figures grow by a click; nothing here talks to anybody.
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const value = (row, column) => row.cells[column].dataset.v;
  const compare = (a, b) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const [x, y] = [Number(a), Number(b)];
    const numeric = a !== '' && b !== '' && !Number.isNaN(x) && !Number.isNaN(y);
    return numeric ? x - y : a.localeCompare(b, 'en', {numeric: true});
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const sorted = rows.slice().sort((p, q) => {
        const [a, b] = [value(p, column), value(q, column)];
        const missing = a === undefined || b === undefined;
        return down && !missing ? compare(b, a) : compare(a, b);
      });
      for (const row of rows) row.classList.remove('rule');
      body.append(...sorted);
    });
  });
  if (rows.length < 8) continue;
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filter = document.createElement('input');
  filter.type = 'search';
  filter.className = 'filter';
  filter.placeholder = `filter ${rows.length} rows: all words must match`;
  filter.setAttribute('aria-label', 'filter rows');
  filter.addEventListener('input', () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
  });
  table.parentElement.before(filter);
}
for (const image of document.querySelectorAll('figure img')) {
  image.addEventListener('click', () => image.parentElement.classList.toggle('zoom'));
}
