"""WCAG AA contrast of everything that can be read on a page, as a script for the browser."""

#: Evaluates to a list of the words whose contrast with what lies behind them is below 4.5 (large text: 3).
#: Pictures behind words are not seen: those are for people to look at.
TOO_FAINT = r"""() => {
  const parse = colour => (colour.match(/[\d.]+/g) || []).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, words = walk.currentNode.textContent.trim();
    if (!/[\p{L}\p{N}]/u.test(words)) continue;  // a lone sign is no text
    if (!node.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (node.closest('[disabled], script, style, noscript, svg, footer')) continue;
    const box = node.getBoundingClientRect(), style = getComputedStyle(node);
    if (box.width < 2 || box.right < 0) continue;
    const [one, two] = [light(parse(style.color)), light(behind(node))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700) ? 3 : 4.5;
    if (ratio < needed) found.add(`${words.slice(0, 40)}: ${ratio.toFixed(2)} (${style.color})`);
  }
  return [...found];
}"""
