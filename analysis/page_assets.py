"""Style and script of the static page, as text."""

STYLE = """
:root { color: #222; background: #fff;
  font: 16px/1.5 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif; }
* { box-sizing: border-box; }
body { margin: 0; }
header, main { max-width: 1500px; margin: 0 auto; padding: 0 20px; }
h1 { font-size: 1.4rem; margin: 1rem 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 1.2rem 0 0.4rem; }
h3 { font-size: 1rem; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
nav { position: sticky; top: 0; z-index: 10; display: flex; overflow-x: auto; gap: 2px; padding: 0 14px;
  background: #fff; border-bottom: 1px solid #ccc; }
nav a { flex: none; padding: 0.55rem 0.6rem; color: #444; text-decoration: none; border-bottom: 3px solid transparent;
  white-space: nowrap; }
nav a:hover { color: #000; border-color: #bbb; }
nav a[aria-current] { color: #000; border-color: #0072B2; font-weight: 600; }
@media (min-width: 1000px) { nav { justify-content: center; } }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); gap: 28px 36px; }
figure.picture { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.plot { width: 100%; overflow: hidden; }
figcaption, .table p { font-size: 0.875rem; line-height: 1.45; color: #444; margin: 0.2rem 0 0;
  overflow-wrap: anywhere; }
.lines { margin: 0.6rem 0 1.2rem; padding: 0.2rem 0 0.2rem 0.9rem; border-left: 4px solid #0072B2; }
.lines p { margin: 0.35rem 0; overflow-wrap: anywhere; }
.notes { color: #555; font-size: 0.9rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
.tables { display: flex; flex-wrap: wrap; gap: 28px 56px; margin-top: 28px; }
.table p { max-width: 900px; }
.table { min-width: 0; max-width: 100%; }
.texts td { text-align: left; white-space: normal; min-width: 9rem; overflow-wrap: anywhere; }
.texts thead th { text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #e2e2e2; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 1.5px solid #444; font-weight: 600; }
tbody th { font-weight: 400; }
.downloads { margin: 0.3rem 0 0; }
.downloads button { font: inherit; font-size: 0.75rem; color: #444; background: #fff; border: 1px solid #bbb;
  border-radius: 3px; padding: 1px 9px; margin-right: 6px; cursor: pointer; }
.downloads button:hover { color: #000; border-color: #666; }
.scripted section { display: none; }
.scripted section.shown { display: block; }
@media print {
  nav, .downloads { display: none; }
  header, main { max-width: none; padding: 0; }
  figure.picture, .table { break-inside: avoid; }
}
"""

# Figures are parsed and drawn when they come near the view: a page of forty opens as fast as a page of one.
SCRIPT = """
(() => {
  'use strict';
  const parsed = {};
  const read = name => parsed[name] ??= JSON.parse(document.getElementById(name).textContent);
  const common = read('common');

  function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = 'yes';
    const figure = read('data-' + plot.dataset.page)[plot.dataset.picture];
    Plotly.newPlot(plot, figure.data, {...figure.layout, template: common.template}, common.config);
  }

  const observer = new IntersectionObserver(
    entries => entries.forEach(entry => {
      if (!entry.isIntersecting) return;
      observer.unobserve(entry.target);
      draw(entry.target);
    }),
    {rootMargin: '600px'});

  const sections = [...document.querySelectorAll('section')];
  const links = [...document.querySelectorAll('nav a')];
  const shownSection = () => sections.find(section => section.classList.contains('shown'));

  function show() {
    const asked = location.hash.slice(1);
    const page = sections.some(section => section.dataset.page === asked) ? asked : sections[0].dataset.page;
    for (const section of sections) section.classList.toggle('shown', section.dataset.page === page);
    for (const link of links) {
      const current = link.getAttribute('href') === '#' + page;
      if (current) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
      if (current) link.parentNode.scrollLeft = link.offsetLeft + (link.clientWidth - link.parentNode.clientWidth) / 2;
    }
    window.scrollTo(0, 0);
    for (const plot of shownSection().querySelectorAll('.plot')) {
      if (!plot.dataset.drawn) observer.observe(plot);
      else Plotly.Plots.resize(plot);  // the window may have changed while it was hidden
    }
  }

  document.addEventListener('click', event => {
    const format = event.target.dataset && event.target.dataset.format;
    if (!format) return;
    const plot = event.target.closest('figure').querySelector('.plot');
    draw(plot);
    Plotly.downloadImage(plot, {
      format, filename: plot.dataset.name, width: 800, height: plot.clientHeight, scale: format === 'png' ? 3 : 1,
    });
  });

  window.addEventListener('hashchange', show);
  window.addEventListener('beforeprint', () => shownSection().querySelectorAll('.plot').forEach(draw));
  document.documentElement.classList.add('scripted');
  show();
})();
"""
