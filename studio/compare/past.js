// Your last prompts: a press brings one back into its field, as if it were typed.
element.addEventListener('click', event => {
  const button = event.target.closest('.past button');
  const field = button && document.querySelector('#prompt textarea, #prompt input');
  if (!field) return;
  field.value = button.title;
  field.dispatchEvent(new Event('input', {bubbles: true}));
  field.focus();
});
