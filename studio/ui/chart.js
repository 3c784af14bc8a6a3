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
let latest = 0, drawnAt = 0;
const NARROW = 520;  // px: a phone
const TICK = 17;     // px that a slanted label needs beside the next one
const BUTTONS = ['select2d', 'lasso2d', 'zoomIn2d', 'zoomOut2d', 'autoScale2d', 'toggleSpikelines',
  'sendChartToCloud'];  // nothing of the studio goes to another host
//: The same inks for a dark page, light enough to be told from it.
const DARK = {
  '#0072B2': '#4aa8dc', '#9467BD': '#b995de', '#7F7F7F': '#a0a0a0', '#C8553D': '#e07a62', '#3B76B5': '#6aa5de',
  'rgba(0, 114, 178,': 'rgba(74, 168, 220,', 'rgba(148, 103, 189,': 'rgba(185, 149, 222,',
};
const dark = () => document.body.classList.contains('dark');
const read = () => {
  let text = props.value;
  if (text && dark()) for (const [light, other] of Object.entries(DARK)) text = text.replaceAll(light, other);
  return text ? JSON.parse(text) : null;
};

// What there is room for: whole labels instead of all of them, and on a phone no buttons over the legend, which gets
// as many lines as it needs.
function fit(figure, width) {
  const layout = figure.layout, narrow = width < NARROW;
  for (const key of Object.keys(layout)) {
    const axis = layout[key];
    if (!/^xaxis\d*$/.test(key) || !Array.isArray(axis.tickvals)) continue;
    const step = Math.ceil(axis.tickvals.length / Math.max(2, Math.floor((width - 80) / TICK)));
    if (step < 2) continue;
    const kept = list => list.filter((_, place) => place % step === 0);
    layout[key] = {...axis, tickvals: kept(axis.tickvals), ticktext: axis.ticktext && kept(axis.ticktext)};
  }
  for (const trace of figure.data) if (trace.type === 'parcoords' && width / trace.dimensions.length < 44) {
    // the numbers of one axis would lie on those of the next: the first and the last keep theirs
    const last = trace.dimensions.length - 1;
    trace.dimensions = trace.dimensions.map((each, at) => at % last ? {...each, tickvals: [], ticktext: []} : each);
    trace.rangefont = {size: 1, color: 'rgba(0,0,0,0)'};
  }
  if (!narrow) return;
  const margin = layout.margin || {};
  layout.margin = {...margin, l: Math.min(margin.l ?? 8, 8), r: 18};  // half a label, such as 100
  if (figure.data.some(trace => trace.type === 'parcoords')) layout.margin = {...margin, l: 52, r: 24};
  layout.font = {...layout.font, size: 11};
  const shown = figure.data.filter(trace => trace.name && trace.showlegend !== false);
  const lines = Math.max(0, Math.ceil(shown.reduce((sum, trace) => sum + 46 + 6.5 * trace.name.length, 0) / width) - 1);
  layout.height = (layout.height || 260) + 20 * Math.min(lines, 8);
  for (const trace of figure.data) if (trace.colorbar) {
    trace.colorbar = {...trace.colorbar, thickness: 8, tickfont: {size: 10}, xpad: 4};
  }
}

async function draw() {
  const figure = read();
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
  const quiet = ink('--body-text-color-subdued') || text;
  const layout = figure.layout;
  drawnAt = stage.clientWidth;
  if (drawnAt) fit(figure, drawnAt);
  layout.font = {...layout.font, color: text};
  layout.paper_bgcolor = layout.plot_bgcolor = 'rgba(0,0,0,0)';
  layout.hoverlabel = {...layout.hoverlabel, bgcolor: ink('--background-fill-primary'), font: {color: text}};
  layout.modebar = {orientation: 'v', bgcolor: 'rgba(0,0,0,0)', color: quiet, activecolor: text, ...layout.modebar};
  for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) {
    layout[key] = {gridcolor: line, linecolor: line, zerolinecolor: line, ...layout[key]};
  }
  stage.setAttribute('aria-label', figure.words || '');
  delete stage.dataset.empty;
  const bar = Math.min(drawnAt || NARROW, window.innerWidth) < NARROW ? {displayModeBar: false} : {modeBarButtonsToRemove: BUTTONS};
  await Plotly.react(stage, figure.data, layout, {displaylogo: false, responsive: true, ...bar, ...figure.config});
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
// A phone that is turned, a fold that is opened: labels are chosen anew for the room that there is.
new ResizeObserver(() => {
  const width = stage.clientWidth;
  if (window.calibriPlotly && props.value && width && Math.abs(width - drawnAt) > 60) draw();
}).observe(stage);
