// When the desk's draft was kept, by the clock of who reads it. A press on Discard triggers "click".
const today = day => day.toDateString() === new Date().toDateString();
const tell = () => {
  for (const time of element.querySelectorAll('time')) {
    const at = new Date(time.dateTime), clock = at.toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'});
    time.textContent = today(at) ? clock : `${at.toLocaleDateString('en-GB', {day: 'numeric', month: 'long'})}, ${clock}`;
  }
};
element.addEventListener('click', event => { if (event.target.closest('.discard')) trigger('click'); });
watch('value', tell);
tell();
