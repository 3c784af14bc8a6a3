// A page waits for its first values with its fields closed: what somebody typed before them would be overwritten.
// `data-filled` on the root says that they have come. A server that does not answer opens the page all the same.
const calibriFilling = (() => {
  const root = document.documentElement;
  let pending = 0, timer = 0;
  const open = () => { clearTimeout(timer); pending = 0; root.inert = false; root.dataset.filled = ''; };
  return {
    begin: () => {
      pending += 1; root.inert = true; delete root.dataset.filled;
      clearTimeout(timer); timer = setTimeout(open, 20000);
    },
    end: () => { if (pending > 0) pending -= 1; if (!pending) open(); },
  };
})();
