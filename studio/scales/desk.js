// The mixing desk: one vertical native range input for each scale, so that keyboards and screen readers work.
// props.value: JSON of {layout: {id, low, high, strips: [{name, group, tag, layer, stream, words}]}, values: [..],
//   sent, member}: `member` is the one whose values these are.
// It triggers "release" with {values, sent, member} when a person has changed the value: the event carries the move, because an
// answer on its way may replace props.value before Gradio reads it.
const root = element.querySelector('.desk');
const readout = element.querySelector('.desk-readout');
let drawn = null, layout = null, strips = [], values = [], inputs = [], low = 0, high = 2, groups = [], groupOf = [];
let curve = null, sent = 0, member = 0;

const two = v => v.toFixed(2);
const signed = v => { const d = v - 1; return (d < -0.004999 ? '−' : '+') + Math.abs(d).toFixed(2); };
const clamp = v => Math.min(high, Math.max(low, v));
const text = s => { const d = document.createElement('span'); d.textContent = s; return d.innerHTML; };

function say(i, keys) {
  if (i == null || !strips[i]) { readout.textContent = readout.dataset.idle; return; }
  readout.textContent = `${strips[i].words} · ${two(values[i])} (${signed(values[i])})` + (keys ? ` · ${readout.dataset.keys}` : '');
}

function paint(i) {
  const v = values[i], input = inputs[i], strip = input.parentElement.parentElement;
  input.value = clamp(v);
  input.setAttribute('aria-valuetext', two(v));
  const bar = strip.querySelector('.bar');
  const at = 100 * (clamp(v) - low) / (high - low), mid = 100 * (1 - low) / (high - low);
  bar.style.bottom = Math.min(at, mid) + '%';
  bar.style.height = Math.max(Math.abs(at - mid), 0.6) + '%';
  bar.className = `bar ${tone(v)}`;
  bar.style.opacity = 0.35 + 0.65 * Math.min(1, Math.abs(v - 1) / 0.5);
  strip.querySelector('output').textContent = two(v);
  paintOverview(i);
}

function build() {
  strips = layout.strips; low = layout.low; high = layout.high;
  groups = []; groupOf = [];
  strips.forEach((s, k) => {
    const last = groups[groups.length - 1];
    if (last && last.name === s.group) last.items.push(s); else groups.push({name: s.group, items: [s], from: k});
    groupOf.push(groups.length - 1);
  });
  let i = 0;
  root.innerHTML = groups.map(g => `<div class="group" role="group" aria-label="${text(g.name)}" style="--scales:${g.items.length}">
    <div class="strips">${g.items.map(s => `<div class="strip" data-i="${i}" data-layer="${text(s.layer)}" data-stream="${text(s.stream)}">
      <span class="cap" aria-hidden="true"></span>
      <div class="well"><div class="bar"></div><input type="range" orient="vertical" min="${low}" max="${high}" step="0.01"
        aria-orientation="vertical" aria-label="${text(s.words)}" title="${text(s.words)}" data-i="${i++}" data-name="${text(s.name)}"></div>
      <output aria-hidden="true"></output><span class="tag">${text(s.tag)}</span></div>`).join('')}</div>
    <div class="group-foot"><button type="button" class="group-name" data-act="fold" aria-expanded="true">${text(title(g.name))}</button>
      <span class="mini" aria-hidden="true">${bars(g.items)}</span>
      <span class="group-acts"><button type="button" data-act="reset" data-group="${text(g.name)}" title="Reset ${text(g.name)} to 1.00" aria-label="Reset ${text(g.name)}">↺</button>
      <button type="button" data-act="solo" data-group="${text(g.name)}" title="Solo: keep only the scales of ${text(g.name)}" aria-label="Solo ${text(g.name)}">S</button>
      <button type="button" data-act="skip" data-group="${text(g.name)}" title="Skip ${text(g.name)}: all its scales to 0" aria-label="Skip ${text(g.name)}">0</button></span></div>
  </div>`).join('');
  root.classList.toggle('dense', strips.length > 60);
  inputs = [...root.querySelectorAll('input')];
  buildOverview();
}

function draw() {
  const v = props.value ? JSON.parse(props.value) : null;
  if (!v || !v.layout) return;
  if (drawn !== v.layout.id) { layout = v.layout; build(); drawn = layout.id; }
  if (curve || (v.sent || 0) < sent) return;  // the hand wins over an answer to an earlier move
  member = v.member || 0;
  values = v.values.slice();
  inputs.forEach((_, k) => paint(k));
  nameBlocks();
}

function release() {
  sent = Date.now();
  nameBlocks();
  props.value = JSON.stringify({layout, values, sent, member});
  trigger('release', {values: values.slice(), sent, member});
}

root.addEventListener('input', e => {
  const i = +e.target.dataset.i;
  values[i] = +e.target.value; paint(i); say(i);
});
root.addEventListener('change', e => { if (e.target.matches('input') && !curve) release(); });
root.addEventListener('focusin', e => e.target.dataset.i && say(+e.target.dataset.i, e.target.matches(':focus-visible')));
root.addEventListener('pointerover', e => { const s = e.target.closest('.strip'); if (s) say(+s.dataset.i); });
root.addEventListener('pointerleave', () => say(null));
root.addEventListener('dblclick', e => {
  const s = e.target.closest('.strip'); if (!s) return;
  const i = +s.dataset.i; values[i] = 1; paint(i); say(i); release();
});
root.addEventListener('keydown', e => {
  if (!e.target.matches('input')) return;
  const i = +e.target.dataset.i;
  if (e.shiftKey && (e.key === 'ArrowLeft' || e.key === 'ArrowRight')) {  // a desk of 240 scales is long for Tab alone
    const step = e.key === 'ArrowRight' ? 1 : -1;
    let at = i + step;
    while (inputs[at] && isFolded(groups[groupOf[at]])) at += step;
    const next = inputs[at];
    e.preventDefault();
    if (next) { next.focus(); next.closest('.strip').scrollIntoView({block: 'nearest', inline: 'nearest'}); }
    return;
  }
  if (e.key === 'Delete' || e.key === 'Backspace') { e.preventDefault(); values[i] = 1; paint(i); say(i); release(); }
});
root.addEventListener('click', e => {
  const b = e.target.closest('button[data-act]');
  if (!b) return;
  const {act, group} = b.dataset;
  if (act === 'fold') {
    const box = b.closest('.group');
    foldEach(g => (g.box === box ? !isFolded(g) : undefined));
    return;
  }
  strips.forEach((s, i) => {
    const inside = s.group === group;
    if (act === 'solo' ? !inside : inside) { values[i] = act === 'skip' ? 0 : 1; paint(i); }
  });
  release();
});

// Shift and drag draws a curve over neighbours, in the row in which it began.
function follow(e) {
  const well = curve.well.getBoundingClientRect(), desk = root.getBoundingClientRect();
  const row = (Math.max(well.top, desk.top) + Math.min(well.bottom, desk.bottom)) / 2;  // of the part that is in sight
  const under = document.elementsFromPoint(e.clientX, row)
    .map(n => n.closest && n.closest('.strip')).find(Boolean);
  if (!under || !root.contains(under)) return;
  const i = +under.dataset.i, box = inputs[i].getBoundingClientRect();
  const v = Math.round(100 * clamp(low + (high - low) * (1 - (e.clientY - box.top) / box.height))) / 100;
  const from = curve.last ? curve.last.i : i, start = curve.last ? curve.last.v : v;
  const span = i - from, sign = Math.sign(span) || 1;
  for (let k = from; k !== i + sign; k += sign) {
    if (isFolded(groups[groupOf[k]])) continue;  // nobody sees it
    values[k] = span ? Math.round(100 * (start + (v - start) * (k - from) / span)) / 100 : v;
    paint(k);
  }
  curve.last = {i, v}; say(i);
}
root.addEventListener('pointerdown', e => {
  if (!e.shiftKey || e.button !== 0 || !e.target.closest('.well')) return;
  e.preventDefault(); e.stopPropagation();
  curve = {last: null, well: e.target.closest('.well')}; root.setPointerCapture(e.pointerId); root.classList.add('drawing'); follow(e);
}, true);
root.addEventListener('mousedown', e => { if (e.shiftKey && e.target.closest('.well')) e.preventDefault(); }, true);
root.addEventListener('pointermove', e => { if (curve) follow(e); });
const finish = () => { if (!curve) return; curve = null; root.classList.remove('drawing'); release(); };
root.addEventListener('pointerup', finish);
root.addEventListener('pointercancel', finish);

watch('value', draw);
draw();
say(null);
