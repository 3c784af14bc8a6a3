// The overview above a large desk, and groups that are folded. It comes before desk.js in one scope: `root`, `strips`,
// `values`, `groups` and `groupOf` (place of a scale → place of its group) are declared there, and used here once the desk
// is drawn.
// groups: [{name, items, from, box, block, minis, ticks}]: `from` is the place of its first scale, `box` its element on the
// desk, `block` its button in the overview; `minis` and `ticks` are the small bars of its scales in the one and the other.
const LARGE = 40;  // scales from which a desk has an overview
const FOLDS = 'calibri-desk-folds', MOST_FOLDS = 8;  // layouts of which a browser remembers what was folded
const map = element.querySelector('.desk-map'), overview = element.querySelector('.desk-overview');
const seen = element.querySelector('.desk-seen');
let marking = 0;

const tone = v => (Math.abs(v - 1) < 0.005 ? 'even' : v > 1 ? 'warm' : 'cool');
const title = name => name.replaceAll('.', ' ');
const kindOf = name => name.split('.')[0];
const bars = items => items.map(() => '<i></i>').join('');
const foldKey = () => `${strips.length}:${strips[0].name}`;

function readFolds() {
  try {
    const kept = JSON.parse(localStorage.getItem(FOLDS));
    return Array.isArray(kept) ? kept.filter(each => Array.isArray(each) && Array.isArray(each[1])) : [];
  } catch { return []; }
}

function keepFolds() {
  const folded = groups.filter(isFolded).map(g => g.name);
  const others = readFolds().filter(([key]) => key !== foldKey());
  try { localStorage.setItem(FOLDS, JSON.stringify([[foldKey(), folded], ...others].slice(0, MOST_FOLDS))); } catch { /* full */ }
}

const isFolded = g => g.box.classList.contains('folded');

function fold(g, folded) {
  const inside = g.box.contains(document.activeElement);
  g.box.classList.toggle('folded', folded);
  const button = g.box.querySelector('.group-name');
  button.setAttribute('aria-expanded', String(!folded));
  button.title = `${folded ? 'Unfold' : 'Fold'} ${title(g.name)}`;
  if (inside && folded) button.focus({preventScroll: true});
}

// `folded(group)`: whether it is folded from now on; undefined leaves it.
function foldEach(folded) {
  for (const g of groups) { const next = folded(g); if (next !== undefined) fold(g, next); }
  keepFolds(); showKinds(); mark();
}

function isEven(g) { return g.items.every((_, k) => tone(values[g.from + k]) === 'even'); }

function showKinds() {
  for (const label of overview.querySelectorAll('[data-kind]')) {
    const open = groups.some(g => kindOf(g.name) === label.dataset.kind && !isFolded(g));
    label.setAttribute('aria-expanded', String(open));
    label.title = `${open ? 'Fold' : 'Unfold'} all of ${label.dataset.kind}`;
  }
}

// Everything that is drawn anew with another layout.
function buildOverview() {
  const boxes = root.querySelectorAll('.group'), known = new Map(readFolds()).get(foldKey()) || [];
  let kind = null;
  overview.innerHTML = groups.map((g, k) => {
    const label = kindOf(g.name) === kind ? '' : `<button type="button" class="kind" tabindex="-1" data-kind="${text(kindOf(g.name))}">${text(kindOf(g.name))}</button>`;
    kind = kindOf(g.name);
    return `${label}<button type="button" class="block" tabindex="-1" data-at="${k}" style="--scales:${g.items.length}">${bars(g.items)}</button>`;
  }).join('');
  groups.forEach((g, k) => {
    g.box = boxes[k];
    g.block = overview.querySelector(`[data-at="${k}"]`);
    g.minis = g.box.querySelectorAll('.mini i');
    g.ticks = g.block.querySelectorAll('i');
    fold(g, known.includes(g.name));
  });
  map.hidden = strips.length <= LARGE;
  const first = overview.querySelector('button');
  if (first) first.tabIndex = 0;
  showKinds(); mark();
}

// A bar up for more than 1 and down for less, as long and as strong as the distance.
function shade(bar, v) {
  bar.className = tone(v);
  bar.style.setProperty('--far', Math.min(1, Math.abs(v - 1) / 0.5).toFixed(2));
}

function paintOverview(i) {
  const g = groups[groupOf[i]];
  shade(g.minis[i - g.from], values[i]);
  shade(g.ticks[i - g.from], values[i]);
}

// What a block is like, in words: for its button, and beside the pointer.
function describe(g) {
  const held = values.slice(g.from, g.from + g.items.length), moved = held.filter(v => tone(v) !== 'even').length;
  const range = moved ? `, ${two(Math.min(...held))} to ${two(Math.max(...held))}` : '';
  return `${title(g.name)}: ${moved ? `${moved} of ${held.length} moved${range}` : 'all at 1.00'}`;
}

function nameBlocks() { for (const g of groups) g.block.setAttribute('aria-label', describe(g)); }

// Marks what part of the desk is in view, in the overview and in words.
function mark() {
  cancelAnimationFrame(marking);
  marking = requestAnimationFrame(() => {
    if (map.hidden || !groups.length) return;
    const box = root.getBoundingClientRect(), edge = 10;
    const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, document.documentElement.clientHeight);
    const shown = groups.filter(g => {
      const at = g.box.getBoundingClientRect();
      const inside = at.bottom > top + edge && at.top < bottom - edge && at.right > box.left + edge && at.left < box.right - edge;
      g.block.classList.toggle('seen', inside);
      return inside;
    });
    const ends = shown.length ? [...new Set([shown[0].name, shown[shown.length - 1].name])].map(title).join(' to ') : '';
    seen.textContent = ends ? `In view: ${ends}` : '';
  });
}

function jump(g) {
  if (isFolded(g)) foldEach(each => (each === g ? false : undefined));
  root.scrollIntoView({block: 'nearest', inline: 'nearest'});
  const box = root.getBoundingClientRect(), at = g.box.getBoundingClientRect();
  root.scrollTop += at.top - box.top - 4;
  root.scrollLeft += at.left - box.left - 4;
  inputs[g.from].focus({preventScroll: true});
  g.box.classList.remove('reached');
  void g.box.offsetWidth;  // the mark begins anew at a second press
  g.box.classList.add('reached');
  say(g.from); mark();
}

overview.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  rove(button);
  if (button.dataset.at != null) { jump(groups[+button.dataset.at]); return; }
  const kind = button.dataset.kind, folded = button.getAttribute('aria-expanded') === 'true';
  foldEach(g => (kindOf(g.name) === kind ? folded : undefined));
});

function rove(button) {
  for (const each of overview.querySelectorAll('[tabindex="0"]')) each.tabIndex = -1;
  button.tabIndex = 0;
}

overview.addEventListener('keydown', event => {
  const all = [...overview.querySelectorAll('button')], at = all.indexOf(document.activeElement);
  const next = {ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1}[event.key];
  if (at < 0 || next === undefined) return;
  event.preventDefault();
  const button = all[Math.min(all.length - 1, Math.max(0, next))];
  rove(button); button.focus();
});
for (const name of ['pointerover', 'focusin']) overview.addEventListener(name, event => {
  const button = event.target.closest('[data-at]');
  if (button) readout.textContent = describe(groups[+button.dataset.at]);
});
overview.addEventListener('pointerleave', () => say(null));
map.addEventListener('click', event => {
  const wanted = event.target.closest('[data-fold]')?.dataset.fold;
  if (wanted) foldEach({none: () => false, all: () => true, even: isEven}[wanted]);
});
document.addEventListener('scroll', () => mark(), {capture: true, passive: true});
new ResizeObserver(() => mark()).observe(element);
