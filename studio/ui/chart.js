// A chart that keeps its zoom and legend: Plotly.react into one element.
// props.value: JSON of {data, layout, config, words}
const stage = element.querySelector('.chart');
const library = () => window.calibriPlotly ??= new Promise((done, failed) => {
  const script = document.createElement('script');
  const root = (window.gradio_config && window.gradio_config.root) || '';
  script.src = `${root}/gradio_api/file=${stage.dataset.library}`;
  script.onload = () => done(window.Plotly);
  script.onerror = () => failed(new Error('the chart library did not load'));
  document.head.appendChild(script);
});
let latest = 0;

async function draw() {
  const figure = props.value ? JSON.parse(props.value) : null;
  const turn = ++latest;
  if (!figure || !figure.data) {           // nothing to tell now: an old chart must not stay
    stage.dataset.empty = '1';
    stage.setAttribute('aria-label', '');
    if (stage.dataset.wired) { delete stage.dataset.wired; window.Plotly.purge(stage); }
    return;
  }
  const Plotly = await library();
  if (turn !== latest || !stage.isConnected) return;
  const ink = name => getComputedStyle(stage).getPropertyValue(name).trim();
  const text = ink('--body-text-color') || '#222', line = ink('--border-color-primary') || '#ccc';
  const layout = figure.layout;
  layout.font = {...layout.font, color: text};
  layout.paper_bgcolor = layout.plot_bgcolor = 'rgba(0,0,0,0)';
  layout.hoverlabel = {...layout.hoverlabel, bgcolor: ink('--background-fill-primary'), font: {color: text}};
  for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) {
    layout[key] = {gridcolor: line, linecolor: line, zerolinecolor: line, ...layout[key]};
  }
  stage.setAttribute('aria-label', figure.words || '');
  delete stage.dataset.empty;
  await Plotly.react(stage, figure.data, layout, {displaylogo: false, responsive: true, ...figure.config});
  if (!stage.dataset.wired) {
    stage.dataset.wired = '1';
    stage.on('plotly_click', e => {
      const p = e.points && e.points[0]; if (!p) return;
      trigger('select', {x: p.x, y: p.y, curve: p.curveNumber, point: p.pointNumber, data: p.customdata ?? null});
    });
  }
}
// The library is fetched as soon as the place of a chart is in sight, while its figure is still on the way.
const seen = new IntersectionObserver(entries => {
  if (!entries.some(e => e.isIntersecting)) return;
  seen.disconnect(); library().catch(() => {}); draw(); watch('value', draw);
});
seen.observe(stage);
new MutationObserver(() => { if (window.calibriPlotly && props.value) draw(); })
  .observe(document.body, {attributes: true, attributeFilter: ['class']});
