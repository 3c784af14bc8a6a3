// A press on a row chooses its search, one on its box draws it beside the chosen one.
element.addEventListener('click', event => {
  const row = event.target.closest('tr[data-run]');
  if (!row) return;
  const beside = event.target.matches('input');
  trigger('select', {run: row.dataset.run, beside: beside ? event.target.checked : null});
});
