// Copies the address of this page with another query, such as "?run=…". Where the browser refuses the clipboard, an
// older way follows; the link stays on the page for a moment in any case, to be copied by hand.
async function calibriCopyLink(query) {
  const link = query ? new URL(query, location.origin + location.pathname).href : '';
  let copied = false;
  if (link) {
    try { await navigator.clipboard.writeText(link); copied = true; } catch { copied = calibriCopySelected(link); }
  }
  let told = document.getElementById('link-told');
  if (!told) {
    told = document.createElement('div');
    told.id = 'link-told'; told.setAttribute('role', 'status');
    document.body.append(told);
  }
  told.replaceChildren(copied ? 'Link copied' : link ? 'Copy this link' : 'There is nothing here yet to link to');
  told.hidden = false;
  if (link) {
    const field = document.createElement('input');
    field.readOnly = true; field.value = link; field.setAttribute('aria-label', 'The link');
    told.append(field);
    if (!copied) { field.focus(); field.select(); }
  }
  clearTimeout(window.calibriLinkTimer);
  window.calibriLinkTimer = setTimeout(() => { told.hidden = true; }, copied || !link ? 6000 : 60000);
}
function calibriCopySelected(text) {
  const field = document.createElement('textarea');
  field.value = text; field.style.position = 'fixed'; field.style.opacity = '0';
  document.body.append(field);
  field.select();
  let copied = false;
  try { copied = document.execCommand('copy'); } catch { /* refused, too */ }
  field.remove();
  return copied;
}
