// The rater's page. Needs: element (holds .vote), and root (the path under which the studio is served) or gradio_config.
const box = element.querySelector('.vote');
const base = typeof root === 'string' ? root : (window.gradio_config && window.gradio_config.root) || '';
const given = new URLSearchParams(location.search);
const me = {study: given.get('study') || '', invite: given.get('invite') || '', preview: given.get('preview') || ''};
const others = [...given].filter(([name]) => !(name in me) && !name.startsWith('__')).slice(0, 12);   // ids of a panel's link
if (others.length) me.panel = Object.fromEntries(others.map(([name, value]) => [name.slice(0, 40), value.slice(0, 129)]));
const WORDS = {left: 'A is better', right: 'B is better', tie: 'No difference', both_bad: 'Both are bad', skip: 'Skip'};
const KEYS = {1: 'left', 2: 'right', 3: 'tie', 4: 'both_bad', 5: 'skip', ArrowLeft: 'left', ArrowRight: 'right', ArrowDown: 'tie', ArrowUp: 'both_bad'};
const loaded = new Map();                  // url -> promise of an <img> that is ready to be shown
let front = 'left', flipped = false;       // where both pictures lie in one place: which one is seen, and whether both were
let view = null, chosen = {}, ready = false, sending = false, seenAt = 0, shownMs = 0, visibleSince = 0, turn = 0;

function rater() {                         // a random word kept in this browser; the server stores only a keyed hash of it
  const keep = 'calibri-rater';
  let word = '';
  try { word = localStorage.getItem(keep) || ''; } catch { /* private mode: this visit only */ }
  if (!/^[0-9a-f]{32}$/.test(word)) {
    word = rater.once ??= [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, '0')).join('');
    try { localStorage.setItem(keep, word); } catch { /* as above */ }
  }
  return word;
}

function make(tag, values = {}, ...children) {   // texts become text nodes: nothing that a prompt says is ever markup
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(values)) k === 'class' ? node.className = v : k.startsWith('on') ? node.addEventListener(k.slice(2), v) : node.setAttribute(k, v);
  node.append(...children.filter(c => c !== null));
  return node;
}

async function ask(what, more = {}) {
  const answer = await fetch(`${base}/ballot/${what}`, {method: 'POST', keepalive: true, cache: 'no-store',
    headers: {'content-type': 'application/json'}, body: JSON.stringify({...me, rater: rater(), ...more})});
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.text), {code: told.error, signin: told.signin, status: answer.status, wait: Number(answer.headers.get('retry-after')) || 0});
  return told;
}

function load(token, side) {
  const url = `${base}/ballot/picture/${token}/${side}`;
  if (!loaded.has(url)) {
    const image = new Image();
    image.alt = side === 'left' ? 'Picture A' : 'Picture B';
    image.draggable = false;
    image.src = url;
    const promise = image.decode().then(() => image);
    promise.catch(() => loaded.delete(url));
    loaded.set(url, promise);
  }
  return loaded.get(url);
}

function card(title, ...content) { box.replaceChildren(make('div', {class: 'card'}, make('h1', {}, title), ...content)); }
const say = text => { const note = box.querySelector('.note'); if (note) note.textContent = text; };
if (me.preview) box.before(make('div', {class: 'vote-preview', role: 'note'}, 'Preview: nothing is counted'));
function back(address) {                    // to the panel; nothing but https becomes a link
  try { if (new URL(address).protocol !== 'https:') return null; } catch { return null; }
  return make('p', {}, make('a', {class: 'go', id: 'vote-back', href: address, rel: 'noreferrer'}, 'Back to where you came from'));
}
const paragraphs = text => text.split('\n').map(line => make('p', {}, line));

function show(next) {
  view = next; chosen = {}; ready = false; sending = false; turn += 1; shownMs = 0; visibleSince = 0; front = 'left'; flipped = false;
  if (view.study) me.study = view.study;
  if (view.stage === 'choose') return card(view.text, ...view.studies.map(s =>
    make('p', {}, make('button', {class: 'go', type: 'button', onclick: () => { me.study = s.id; start(); }}, s.name))));
  if (view.stage === 'welcome') return card(view.name, ...paragraphs(view.text),
    make('p', {class: 'quiet'}, `${view.total ? `At most ${view.total} ${view.total === 1 ? 'pair' : 'pairs'}. ` : ''}Stop whenever you like: come back in this browser and go on. With a keyboard, the keys 1 to 5 answer and U takes your last vote back.`),
    make('p', {class: 'quiet'}, view.consent),
    make('p', {}, make('button', {class: 'go', type: 'button', id: 'vote-start', onclick: () => step('consent')}, 'I agree, start')), make('p', {class: 'note'}));
  if (view.stage === 'wait') {
    const mine = turn;
    setTimeout(() => { if (mine === turn && box.isConnected) start(); }, 1000 * view.retry_s);
  }
  if (view.stage === 'wait') return card('Nothing to vote on just now', make('p', {role: 'status'}, view.text),
    view.done ? make('p', {class: 'quiet'}, `You voted on ${view.done} ${view.done === 1 ? 'pair' : 'pairs'} so far.`) : null,
    make('button', {class: 'go', type: 'button', onclick: start}, 'Look again'), make('p', {class: 'note'}));
  if (view.stage === 'end') return card('Thank you', make('p', {}, view.text),
    view.done ? make('p', {class: 'quiet'}, `You voted on ${view.done} ${view.done === 1 ? 'pair' : 'pairs'}. You can close this page.`) : null,
    ...(view.result || []).map(line => make('p', {}, line)),
    view.code ? make('p', {}, 'Your completion code: ', make('b', {id: 'vote-code'}, view.code)) : null, back(view.return_to),
    view.can_undo ? make('button', {type: 'button', onclick: () => step('undo')}, 'Undo my last vote') : null, make('p', {class: 'note'}));
  draw();
}

function draw() {
  const [now, next] = view.showings;
  const frame = side => make('figure', {class: view.flip && side !== front ? 'back' : ''}, make('div', {class: 'frame', 'data-side': side}), make('figcaption', {}, side === 'left' ? 'A' : 'B'));
  const pair = make('div', {class: `pair loading${view.questions.length > 1 ? ' two' : ''}${view.flip ? ' flip' : ''}`}, frame('left'), frame('right'));
  pair.addEventListener('click', view.flip ? flip : zoom);
  pair.addEventListener('pointermove', aim);
  const rows = view.questions.map((q, i) => make('fieldset', {'data-question': q.id, class: i ? 'later' : ''}, make('legend', {}, q.text),
    make('div', {class: 'answers'}, ...view.answers.map(a => make('button', {type: 'button', disabled: '', 'data-answer': a,
      class: a === 'left' || a === 'right' ? 'side' : '', onclick: () => choose(q.id, a)}, WORDS[a], make('kbd', {}, String(Object.values(KEYS).indexOf(a) + 1)))))));
  box.replaceChildren(make('div', {class: 'prompt'}, now.prompt), pair, ...rows,
    view.comments ? make('textarea', {rows: '1', maxlength: '500', placeholder: 'A comment (optional)', 'aria-label': 'A comment (optional)'}) : '',
    make('p', {class: 'note', role: 'status'}, 'Loading both pictures…'),
    make('div', {class: 'foot'}, make('button', {type: 'button', id: 'vote-undo', onclick: () => step('undo'), ...(view.can_undo ? {} : {disabled: ''})}, 'Undo', make('kbd', {}, 'U')),
      make('progress', {max: String(view.total), value: String(view.done), 'aria-label': 'Progress'}),
      make('span', {class: 'quiet'}, `${view.done + 1} of ${view.total}`), ...(view.flip ? [make('button', {type: 'button', id: 'vote-flip', onclick: flip}, 'Flip A and B', make('kbd', {}, 'F'))] : []),
      make('span', {class: 'quiet'}, view.flip ? 'Zoom both' : 'Tap a picture to zoom both'), make('kbd', {}, 'Z')));
  reveal(now, turn);
  if (next) for (const side of ['left', 'right']) load(next.token, side).catch(() => {});
}

async function reveal(showing, mine, tries = 1) {     // both at once, so that loading times tell nothing
  try {
    const images = await Promise.all([load(showing.token, 'left'), load(showing.token, 'right')]);
    if (mine !== turn) return;
    const pair = box.querySelector('.pair');
    pair.style.setProperty('--ratio', images[0].naturalWidth / images[0].naturalHeight);
    pair.style.setProperty('--whole', `${images[0].naturalWidth}px`);
    pair.querySelectorAll('.frame').forEach((frame, i) => frame.replaceChildren(images[i]));
    pair.classList.remove('loading');
    box.querySelector('#vote-skip')?.remove();
    visibleSince = document.hidden ? 0 : performance.now(); shownMs = 0;
    if (view.flip) say('This is A. Press F, or tap the picture, to see B.'); else openSoon(mine);
  } catch {
    if (mine !== turn) return;
    say('A picture did not load. Trying again…');
    if (tries >= 2 && !box.querySelector('#vote-skip')) box.querySelector('.note').after(make('button',
      {class: 'go', type: 'button', id: 'vote-skip', onclick: skip}, 'Skip this pair'));   // whatever the study offers
    setTimeout(() => mine === turn && reveal(showing, mine, tries + 1), Math.min(1500 * tries, 15000));
  }
}

function openSoon(mine) {                  // both pictures were seen: answers open a moment later
  say('');
  seenAt = performance.now();
  setTimeout(() => { if (mine === turn && !sending) { ready = true; enable(); } }, view.least_view_ms);
}

function flip() {
  const pair = box.querySelector('.pair.flip');
  if (!pair || pair.classList.contains('loading')) return;
  front = front === 'left' ? 'right' : 'left';
  for (const figure of pair.querySelectorAll('figure')) figure.classList.toggle('back', figure.firstChild.dataset.side !== front);
  if (!flipped) { flipped = true; openSoon(turn); }
}

function skip() {
  if (sending) return;
  chosen = Object.fromEntries(view.questions.map(q => [q.id, 'skip']));
  cast();
}

function enable() {
  const open = view.questions.find(q => !(q.id in chosen));
  for (const row of box.querySelectorAll('fieldset')) {
    row.classList.toggle('later', open !== undefined && row.dataset.question !== open.id && !(row.dataset.question in chosen));
    for (const b of row.querySelectorAll('button')) {
      b.disabled = !ready || sending;
      b.classList.toggle('chosen', chosen[row.dataset.question] === b.dataset.answer);
      b.setAttribute('aria-pressed', String(chosen[row.dataset.question] === b.dataset.answer));
    }
  }
}

function choose(question, answer) {
  if (!ready || sending) return;
  chosen[question] = answer;
  enable();
  if (view.questions.every(q => q.id in chosen)) cast();
}

const visibleMs = () => shownMs + (visibleSince ? performance.now() - visibleSince : 0);

async function cast() {
  sending = true; enable();
  const remark = box.querySelector('textarea');
  const vote = {token: view.showings[0].token, answers: {...chosen}, response_ms: ready ? Math.round(performance.now() - seenAt) : null,
    shown_ms: Math.round(visibleMs()), comment: remark ? remark.value : ''};
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try { return show(await ask('cast', vote)); }      // the same vote sent again is one vote: a lost answer is no danger
    catch (error) {
      const later = error.code === 'early' || error.code === 'busy';
      if (error.status && error.status < 500 && !later) return refused(error);
      say(later ? error.message : 'Your vote has not arrived yet. Trying again…');
      await new Promise(done => setTimeout(done, Math.max(wait, 1000 * (error.wait || 0))));
    }
  }
}

async function step(what) {
  if (sending) return;
  sending = true;
  try { show(await ask(what)); } catch (error) { sending = false; refused(error); }
}

async function refused(error) {
  if (['expired', 'used', 'second', 'token', 'foreign'].includes(error.code)) { await start(); say(error.message); }
  else if (error.code === 'closed') show({stage: 'end', text: error.message});
  else if (error.code === 'nothing') say(error.message);
  else if (error.signin) signIn(error);
  else {
    const mine = ++turn;
    if (error.code === 'busy') setTimeout(() => { if (mine === turn && box.isConnected) start(); }, 1000 * (error.wait || 5));
    card('Not now', make('p', {}, error.status ? error.message : 'The studio does not answer. Check your connection and try again.'),
      make('button', {class: 'go', type: 'button', onclick: start}, 'Try again'));
  }
}

function signIn(error) {                   // the hub brings its visitor back to this page; no frame shows the hub's own
  const page = location.pathname.replace(/\/+$/, '').split('/').pop();
  const wanted = `${page}?${new URLSearchParams({...Object.fromEntries(given), study: me.study})}`;
  turn += 1;
  card('Sign in first', make('p', {}, error.message), make('p', {class: 'quiet'}, 'Your account is kept as a code that names nobody. One account votes once on each pair.'),
    make('p', {}, make('a', {class: 'go', id: 'vote-signin', href: `${base}${error.signin}?next=${encodeURIComponent(wanted)}`,
      ...(window.top === window ? {} : {target: '_blank'})}, 'Sign in with Hugging Face')));
}

async function start() { sending = false; try { show(await ask('look')); } catch (error) { refused(error); } }

function zoom(event) {
  const pair = box.querySelector('.pair');
  if (!pair || pair.classList.contains('loading')) return;
  if (event && !event.target.closest('.frame')) return;
  if (event) aim(event);
  pair.classList.toggle('zoomed');
}

function aim(event) {
  const frame = event.target.closest('.frame');
  if (!frame) return;
  const r = frame.getBoundingClientRect(), pair = box.querySelector('.pair');
  pair.style.setProperty('--x', `${100 * (event.clientX - r.left) / r.width}%`);
  pair.style.setProperty('--y', `${100 * (event.clientY - r.top) / r.height}%`);
}

document.addEventListener('keydown', event => {
  if (!box.isConnected || !view || event.repeat || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest('textarea, input, select, [contenteditable]')) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (view.stage === 'vote' && KEYS[key] && view.answers.includes(KEYS[key])) {
    event.preventDefault();
    const open = view.questions.find(q => !(q.id in chosen));
    if (open) choose(open.id, KEYS[key]);
  } else if (key === 'u' && view.can_undo) step('undo');
  else if (key === 'f') flip();
  else if (key === 'z') zoom();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) { shownMs = visibleMs(); visibleSince = 0; } else visibleSince = performance.now();
});
start();
