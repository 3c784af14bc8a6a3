// A page waits for its first values with its fields closed: what somebody typed before them would be overwritten.
// So it does again, for a moment, when a backbone is there and its own settings come; the field that had the focus gets
// it back. `data-filled` on the root says that no values are on their way, `data-ready` how many came of a backbone. A
// server that does not answer opens the page all the same.
const calibriFilling = (() => {
  const root = document.documentElement;
  let pending = 0, timer = 0, held = null;
  const open = () => {
    clearTimeout(timer); pending = 0; root.inert = false; root.dataset.filled = '';
    if (held && held.isConnected) held.focus({ preventScroll: true });
    held = null;
  };
  return {
    begin: () => {
      if (!pending && document.activeElement !== document.body) held = document.activeElement;
      pending += 1; root.inert = true; delete root.dataset.filled;
      clearTimeout(timer); timer = setTimeout(open, 20000);
    },
    end: () => { if (pending > 0) pending -= 1; if (!pending) open(); },
    ready: () => { root.dataset.ready = Number(root.dataset.ready || 0) + 1; },
  };
})();
