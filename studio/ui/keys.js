document.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.repeat) return;
  const button = document.querySelector('button.primary-action:not([disabled])');
  if (button && button.offsetParent) { event.preventDefault(); button.click(); }
});
