'use strict';
// Tables sort by a click on a heading and filter by text, long ones turn pages, figures grow by a
// click; nothing here talks to anybody.

const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

// A row of a table: what it sorts by, its text in small letters, and its element.
const fromElement = (row) => ({
  value: (column) => row.cells[column].dataset.v,
  text: row.textContent.toLowerCase(),
  element: () => row,
});

const fromData = (packed, labels) => {
  const cells = packed.map((cell) => typeof cell === 'string' ? [cell, cell, '', false, ''] : cell);
  let row;
  return {
    value: (column) => cells[column][1] ?? undefined,
    text: cells.map((cell) => `${cell[0]} ${cell[2]}`).join(' ').toLowerCase(),
    element: () => row ??= make('tr', {}, ...cells.map(([text, , detail, bold, state], column) =>
      make('td', {className: `${column < labels ? '' : 'n'} ${state}`},
        bold ? make('b', {}, text) : text, ...(detail ? [make('small', {}, detail)] : [])))),
  };
};

const compare = (a, b) => {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const [x, y] = [Number(a), Number(b)];
  const numeric = a !== '' && b !== '' && !Number.isNaN(x) && !Number.isNaN(y);
  return numeric ? x - y : String(a).localeCompare(String(b), 'en', {numeric: true});
};

for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const data = document.getElementById(table.id.replace('table-', 'rows-'));
  const size = data ? Number(data.dataset.page) : Infinity;
  let rows = data
    ? JSON.parse(data.textContent).map((cells) => fromData(cells, Number(data.dataset.labels)))
    : Array.from(body.rows, fromElement);
  let words = [];
  let first = 0;
  const place = make('span', {className: 'place', ariaLive: 'polite'});
  const back = make('button', {type: 'button', textContent: '← back'});
  const on = make('button', {type: 'button', textContent: 'on →'});

  const show = () => {
    const matching = rows.filter((row) => words.every((word) => row.text.includes(word)));
    first = Math.max(0, Math.min(first, matching.length - 1));
    if (data) first -= first % size;
    const last = Math.min(first + size, matching.length);
    body.replaceChildren(...matching.slice(first, last).map((row) => row.element()));
    place.textContent = `rows ${matching.length ? first + 1 : 0} to ${last} of ${matching.length}`;
    back.disabled = first === 0;
    on.disabled = last === matching.length;
  };

  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = make('button', {type: 'button'});  // over the text: inside it none is printed
    button.setAttribute('aria-label', `sort by ${head.textContent}`);
    head.append(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      rows = rows.slice().sort((p, q) => {
        const [a, b] = [p.value(column), q.value(column)];
        const missing = a === undefined || b === undefined;
        return down && !missing ? compare(b, a) : compare(a, b);
      });
      for (const row of body.rows) row.classList.remove('rule');
      if (!data) for (const row of rows) row.element().classList.remove('rule');
      first = 0;
      show();
    });
  });

  if (rows.length < 8) continue;
  const filter = make('input', {
    type: 'search', className: 'filter',
    placeholder: `filter ${rows.length} rows: all words must match`,
  });
  filter.setAttribute('aria-label', 'filter rows');
  filter.addEventListener('input', () => {
    words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    first = 0;
    show();
  });
  table.parentElement.before(filter);
  if (!data) continue;
  back.addEventListener('click', () => { first -= size; show(); });
  on.addEventListener('click', () => { first += size; show(); });
  filter.after(make('span', {className: 'pages'}, back, place, on));
  show();
}

for (const image of document.querySelectorAll('figure img')) {
  image.addEventListener('click', () => image.parentElement.classList.toggle('zoom'));
}

// On paper nothing can be unfolded.
let folded = [];
addEventListener('beforeprint', () => {
  folded = Array.from(document.querySelectorAll('details:not([open])'));
  for (const part of folded) part.open = true;
});
addEventListener('afterprint', () => { for (const part of folded) part.open = false; });
