// Pictures that stand side by side (#pictures) are enlarged and moved together: by the wheel, two fingers or keys, and by
// dragging. Places are shares of a picture's own box, so that all show the same part whatever their size. What is chosen
// stays when new pictures come, as it lies in a style sheet and not in elements that are drawn anew.
(() => {
  const FURTHEST = 16, STEP = 1.25, PAUSE = 300;  // times; times a press; ms between two movements of a wheel
  const EDITS = 'input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable=true]';
  const MOVES = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  const sheet = document.createElement('style');
  let scale = 1, x = 0, y = 0;  // the picture's corner, in shares of its box
  let fingers = new Map(), gap = 0, moved = false, lastWheel = 0, zooming = false;

  const find = target => (target instanceof Element ? target.closest('#pictures .stage .image-frame img') : null);
  const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

  function show() {
    scale = clamp(scale, 1, FURTHEST);
    x = clamp(x, 1 - scale, 0); y = clamp(y, 1 - scale, 0);
    if (!sheet.isConnected) document.head.append(sheet);
    const sharp = scale >= 3 ? ' image-rendering: pixelated;' : '';
    sheet.textContent = scale === 1 ? '' : `#pictures .stage:not(.fullscreen) .image-frame img { transform-origin: 0 0;
      transform: translate(${(100 * x).toFixed(3)}%, ${(100 * y).toFixed(3)}%) scale(${scale.toFixed(4)});${sharp} cursor: grab; touch-action: none !important; }`;
    const row = document.querySelector('#pictures');
    if (row) row.dataset.zoom = scale.toFixed(2);
  }

  function reset() { scale = 1; x = y = 0; show(); }

  // The box of a picture as it would be without being enlarged.
  function boxOf(image) {
    const seen = image.getBoundingClientRect(), width = seen.width / scale, height = seen.height / scale;
    return {left: seen.left - x * width, top: seen.top - y * height, width, height};
  }

  // What lies at this share of the box stays there.
  function enlarge(factor, u = 0.5, v = 0.5) {
    const next = clamp(scale * factor, 1, FURTHEST), ratio = next / scale;
    x = u - (u - x) * ratio; y = v - (v - y) * ratio; scale = next;
    if (scale < 1.005) reset(); else show();
  }

  function enlargeAt(image, factor, clientX, clientY) {
    const box = boxOf(image);
    enlarge(factor, (clientX - box.left) / box.width, (clientY - box.top) / box.height);
  }

  const isFull = image => Boolean(image.closest('.fullscreen')) || Boolean(document.fullscreenElement);

  // A wheel that began to scroll the page goes on scrolling it, also over a picture; and one that made pictures smaller does
  // not scroll at its end.
  document.addEventListener('wheel', event => {
    const image = find(event.target), goesOn = event.timeStamp - lastWheel < PAUSE;
    lastWheel = event.timeStamp;
    if (!goesOn) zooming = false;
    if (!image || isFull(image)) return;
    const wanted = event.ctrlKey || zooming || (!goesOn && (scale > 1 || event.deltaY < 0));
    if (!wanted || event.shiftKey) return;
    zooming = true;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1, strength = event.ctrlKey ? 0.01 : 0.0015;
    enlargeAt(image, Math.exp(-clamp(event.deltaY * lines, -300, 300) * strength), event.clientX, event.clientY);
  }, {passive: false});

  document.addEventListener('pointerdown', event => {
    const image = find(event.target);
    if (!image || isFull(image) || event.button > 0) return;
    fingers.set(event.pointerId, {image, x: event.clientX, y: event.clientY});
    moved = false; gap = spread();
  });

  function spread() {
    const [one, two] = [...fingers.values()];
    return two ? Math.hypot(one.x - two.x, one.y - two.y) : 0;
  }

  document.addEventListener('pointermove', event => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const box = boxOf(finger.image), dx = event.clientX - finger.x, dy = event.clientY - finger.y;
    finger.x = event.clientX; finger.y = event.clientY;
    if (fingers.size > 1) {
      const now = spread(), [one, two] = [...fingers.values()];
      if (gap > 0 && now > 0) enlargeAt(finger.image, now / gap, (one.x + two.x) / 2, (one.y + two.y) / 2);
      gap = now; moved = true;
    } else if (scale > 1 && (dx || dy)) {
      moved = true;
      x += dx / box.width; y += dy / box.height; show();
    }
  });
  for (const name of ['pointerup', 'pointercancel']) document.addEventListener(name, event => {
    fingers.delete(event.pointerId); gap = spread();
  });
  // A browser would drag the picture itself as a file.
  document.addEventListener('dragstart', event => { if (scale > 1 && find(event.target)) event.preventDefault(); });
  document.addEventListener('click', event => { if (moved && find(event.target)) { event.stopPropagation(); moved = false; } }, true);
  document.addEventListener('dblclick', event => { if (find(event.target)) reset(); });

  document.addEventListener('keydown', event => {
    const row = document.querySelector('#pictures');
    if (!row || !row.offsetParent || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(EDITS)) return;
    if (row.querySelector('.fullscreen') || document.fullscreenElement) return;
    const inside = row.contains(event.target) || event.target === document.body;
    if (event.key === '+' || event.key === '=') enlarge(STEP);
    else if (event.key === '-' || event.key === '−') enlarge(1 / STEP);
    else if (event.key === 'Escape' && scale > 1) reset();
    else if (scale > 1 && inside && MOVES[event.key]) { x += 0.1 * MOVES[event.key][0]; y += 0.1 * MOVES[event.key][1]; show(); }
    else return;
    event.preventDefault();
  });
})();
