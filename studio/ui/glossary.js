// One tooltip for all words of the glossary: by pointer, keyboard and finger. What is marked has the class
// `term`; a field's label, a chart's or a table's heading that is such a word is found here.
(() => {
  const places = '[data-testid="block-info"], .gradio-container th, .gradio-container label > span';
  let box, shown;
  const plain = text => text.trim().toLowerCase().replace(/[^\p{L}\p{N} -]/gu, '').trim();
  const find = target => {
    if (!(target instanceof Element)) return null;
    const term = target.closest('.term');
    if (term) return [term, term.dataset.tip];
    const label = target.closest(places);
    const words = label && label.textContent.length < 60 ? plain(label.textContent) : '';
    const meaning = words && Object.hasOwn(window.calibriWords, words) ? window.calibriWords[words] : null;
    return meaning ? [label, meaning] : null;
  };
  const hide = () => { if (box) box.hidden = true; if (shown) shown.removeAttribute('aria-describedby'); shown = null; };
  const show = (element, text) => {
    if (!box) {
      box = document.createElement('div');
      box.id = 'term-tip'; box.role = 'tooltip';
      document.body.append(box);
    }
    if (shown !== element) hide();
    shown = element; box.textContent = text; box.hidden = false;
    element.setAttribute('aria-describedby', 'term-tip');
    place();
  };
  const place = () => {
    const at = shown.getBoundingClientRect(), size = box.getBoundingClientRect(), edge = 8;
    const left = Math.min(Math.max(edge, at.left), document.documentElement.clientWidth - size.width - edge);
    const above = at.top - size.height - 6;
    box.style.left = `${Math.max(edge, left)}px`;
    box.style.top = `${above > edge ? above : at.bottom + 6}px`;
  };
  const react = event => { const found = find(event.target); if (found) show(...found); else if (shown) hide(); };
  for (const name of ['pointerover', 'focusin', 'click']) document.addEventListener(name, react, true);
  document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
  // A page also scrolls by itself, to the word that was just reached: the words go along while theirs is seen.
  const follow = () => {
    if (!shown || box.hidden) return;
    const {top, bottom} = shown.getBoundingClientRect();
    if (shown.isConnected && bottom > 0 && top < document.documentElement.clientHeight) place(); else hide();
  };
  document.addEventListener('scroll', follow, {capture: true, passive: true});
})();
