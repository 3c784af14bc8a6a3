// The cards of the library. A click on one triggers "select" with {id}: the event carries the choice itself.
const cards = () => [...element.querySelectorAll('.card')];
const press = id => { for (const c of cards()) c.setAttribute('aria-pressed', String(c.dataset.id === id)); };
let focused = null;
element.addEventListener('click', event => {
  const card = event.target.closest('.card');
  if (!card) return;
  press(card.dataset.id);
  trigger('select', {id: card.dataset.id});
});
element.addEventListener('focusin', event => { focused = event.target.closest('.card')?.dataset.id ?? null; });
element.addEventListener('focusout', event => { if (event.relatedTarget) focused = null; });
// New pictures redraw the cards: whoever was on one with the keyboard stays there.
watch('value', () => setTimeout(() => {
  if (focused === null || document.activeElement !== document.body) return;
  cards().find(c => c.dataset.id === focused)?.focus({preventScroll: true});
}, 50));
