// The static page. Figures are parsed and drawn when they come near the view: a page of forty opens as fast as one of one.
(() => {
  'use strict';
  const parsed = {};
  const read = name => parsed[name] ??= JSON.parse(document.getElementById(name).textContent);
  const common = read('common');
  const runInputs = [...document.querySelectorAll('input[name=runs]')];
  const lossInputs = [...document.querySelectorAll('input[name=losses]')];
  let choice = runInputs.map((_, i) => i).join(' ');  // of runs, as the page was made

  function figureOf(plot) {
    const figures = read('data-' + plot.dataset.page);
    return figures[`${plot.dataset.picture}@${choice}`] || figures[plot.dataset.picture];
  }

  function draw(plot) {
    const state = `${choice} ${adaloss.isDark()} ${lossInputs.map(input => input.checked)}`;
    if (plot.dataset.drawn === state) return;
    plot.dataset.drawn = state;
    const figure = figureOf(plot);
    plot.style.height = `${figure.layout.height}px`;
    const {data, layout} = adaloss.shown({data: figure.data, layout: {...figure.layout, template: common.template}});
    Plotly.react(plot, data, layout, common.config);
  }

  const observer = new IntersectionObserver(
    entries => entries.forEach(entry => {
      entry.target.isNear = entry.isIntersecting;
      if (entry.isIntersecting) draw(entry.target);
    }),
    {rootMargin: '600px'});

  const sections = [...document.querySelectorAll('section[data-page]')];
  const links = [...document.querySelectorAll('nav a')];
  const shownSection = () => sections.find(section => section.classList.contains('shown'));

  function show() {
    const asked = location.hash.slice(1);
    if (asked === 'content' && shownSection()) return;  // past the navigation
    const page = sections.some(section => section.dataset.page === asked) ? asked : sections[0].dataset.page;
    for (const section of sections) section.classList.toggle('shown', section.dataset.page === page);
    for (const link of links) {
      const current = link.getAttribute('href') === '#' + page;
      if (current) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
      if (current) link.parentNode.scrollLeft = link.offsetLeft + (link.clientWidth - link.parentNode.clientWidth) / 2;
    }
    window.scrollTo(0, 0);
    for (const plot of shownSection().querySelectorAll('.plot[data-picture]')) {
      observer.unobserve(plot);  // to be told anew whether it is near
      observer.observe(plot);
      if (plot.querySelector('.main-svg')) Plotly.Plots.resize(plot);  // the window may have changed while it was hidden
    }
  }

  const redraw = () => document.querySelectorAll('.plot').forEach(plot => {
    if (plot.dataset.picture && plot.isNear && plot.offsetParent) draw(plot);
  });
  adaloss.onChange(redraw);

  // --- Which runs and losses are shown --------------------------------------------------------------------------------

  function chooseRuns() {
    const chosen = runInputs.flatMap((input, i) => (input.checked ? input.value.split(' ').map(Number) : []));
    choice = chosen.join(' ');
    for (const element of document.querySelectorAll('[data-run]')) {
      element.toggleAttribute('data-run-out', !chosen.includes(Number(element.dataset.run)));
    }
    for (const place of document.querySelectorAll('[data-varies]')) {
      const variants = document.querySelectorAll(`template[data-of="${place.dataset.varies}"]`);
      const wanted = [...variants].find(variant => variant.dataset.choices.split(',').includes(choice));
      if (wanted) place.replaceChildren(wanted.content.cloneNode(true));
    }
    adaloss.filter(document);
    document.dispatchEvent(new CustomEvent('runs-chosen', {detail: new Set(chosen)}));
    redraw();
  }

  document.addEventListener('change', event => {
    const {name} = event.target;
    const group = {runs: runInputs, losses: lossInputs}[name];
    if (!group) return;
    if (!group.some(input => input.checked)) event.target.checked = true;  // there is always something to see
    if (name === 'runs') chooseRuns(); else adaloss.chooseLosses(lossInputs);
  });

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
  // On paper everything is there, light and unfolded.
  let folded = [];
  window.addEventListener('beforeprint', () => {
    document.documentElement.classList.remove('scripted');
    folded = [...document.querySelectorAll('details:not([open])')];
    folded.forEach(details => { details.open = true; });
    adaloss.setPrinting(true);
    document.querySelectorAll('.plot[data-picture]').forEach(draw);
  });
  window.addEventListener('afterprint', () => {
    folded.forEach(details => { details.open = false; });
    document.documentElement.classList.add('scripted');
    adaloss.setPrinting(false);
    show();
  });
  document.documentElement.classList.add('scripted');
  show();
})();
