// In another site's frame, or with cookies off, a browser may refuse localStorage: reading it throws, and Gradio's
// scripts end there. What they keep then lives as long as the page. This runs before them.
(() => {
  try { window.localStorage.getItem('calibri'); return; } catch (refused) { /* a stand-in follows */ }
  const kept = new Map();
  const stand = {
    getItem: (key) => (kept.has(String(key)) ? kept.get(String(key)) : null),
    setItem: (key, value) => { kept.set(String(key), String(value)); },
    removeItem: (key) => { kept.delete(String(key)); },
    clear: () => kept.clear(),
    key: (at) => [...kept.keys()][at] ?? null,
    get length() { return kept.size; },
  };
  for (const name of ['localStorage', 'sessionStorage']) {
    try { window[name].getItem('calibri'); continue; } catch (refused) { /* this one, too */ }
    Object.defineProperty(window, name, { configurable: true, get: () => stand });
  }
})();
