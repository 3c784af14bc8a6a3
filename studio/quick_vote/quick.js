// Keys of the page Quick vote: 1 to 4 and the arrows press its buttons, as on the raters' page.
document.addEventListener('keydown', e => {
  if (!element.isConnected || e.repeat || e.altKey || e.ctrlKey || e.metaKey) return;
  if (e.target.closest('textarea, input:not([type=checkbox]):not([type=radio]), select, [contenteditable]')) return;
  const sides = {1: 'left', 2: 'right', 3: 'tie', 4: 'both_bad', ArrowLeft: 'left', ArrowRight: 'right', ArrowDown: 'tie', ArrowUp: 'both_bad'};
  const button = sides[e.key] && document.querySelector(`#quick-vote-${sides[e.key]}:not([disabled])`);
  if (button && button.offsetParent) { e.preventDefault(); button.click(); }
});
