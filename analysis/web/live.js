(() => {
  'use strict';
  const config = CONFIG, interval = INTERVAL_MS, patience = Math.max(PATIENCE_MS, 4 * interval);
  let beat = performance.now(), asked = beat, isWaiting = true;  // Dash itself asks first

  // The next question waits for the answer to the last one; that a server is gone must not be the end of asking.
  setInterval(() => {
    const now = performance.now();
    if (document.hidden || now - (isWaiting ? asked : beat) < (isWaiting ? patience : interval)) return;
    asked = now;
    isWaiting = true;
    dash_clientside.set_props('tick', {data: now});
  }, Math.min(interval, 1000) / 4);

  function answered() {
    beat = performance.now();
    isWaiting = false;
  }

  function draw(plot) {
    const text = plot.dataset.figure;
    if (!plot.isNear || (plot.isDrawn === text && plot.isDrawnAs === look)) return;
    plot.isDrawn = text;
    plot.isDrawnAs = look;
    const figure = adaloss.shown(JSON.parse(text));
    Plotly.react(plot, figure.data, figure.layout, config);
  }

  let look = 0;  // counts changes of colours and losses
  adaloss.onChange(() => {
    look += 1;
    document.querySelectorAll('.plot').forEach(draw);
  });

  // --- Which runs and losses are shown --------------------------------------------------------------------------------

  const left = {runs: new Set(), losses: new Set()};  // out

  function offer(place) {
    const told = JSON.parse(place.dataset.choices);
    const fields = [['runs', 'Runs'], ['losses', 'Losses']].filter(([name]) => told[name].length > 1);
    place.hidden = !fields.length;
    place.replaceChildren(Object.assign(document.createElement('summary'), {textContent: 'Choose what is shown'}));
    for (const [name, title] of fields) {
      const field = document.createElement('fieldset');
      field.append(Object.assign(document.createElement('legend'), {textContent: title}));
      for (const {value, label, shown, colour} of told[name]) {
        const input = Object.assign(document.createElement('input'), {type: 'checkbox', name, value});
        input.checked = !left[name].has(value);
        input.dataset.name = shown || label;
        const box = document.createElement('label');
        box.append(input);
        if (colour) {
          const swatch = Object.assign(document.createElement('span'), {className: 'swatch'});
          swatch.style.background = colour;
          box.append(swatch);
        }
        box.append(label);
        field.append(box);
      }
      place.append(field);
    }
    place.append(Object.assign(document.createElement('p'), {textContent: told.hint}));
  }

  document.addEventListener('change', event => {
    const {name} = event.target;
    if (!(name in left)) return;
    const inputs = [...document.querySelectorAll(`#choices input[name=${name}]`)];
    if (!inputs.some(input => input.checked)) event.target.checked = true;  // there is always something to see
    left[name] = new Set(inputs.filter(input => !input.checked).map(input => input.value));
    if (name === 'runs') dash_clientside.set_props('left-out', {data: [...left.runs]});
    else adaloss.chooseLosses(inputs);
  });

  const observer = new IntersectionObserver(entries => {
    for (const entry of entries) {
      entry.target.isNear = entry.isIntersecting;
      draw(entry.target);
    }
  }, {rootMargin: '300px'});

  const plotsIn = node => {
    if (node.nodeType !== 1) return [];
    return node.matches('.plot') ? [node] : [...node.querySelectorAll('.plot')];
  };

  function forget(plot) {
    observer.unobserve(plot);
    Plotly.purge(plot);
  }

  function mark() {
    const sheet = document.getElementById('sheet');
    if (!sheet) return;
    const links = [...document.querySelectorAll('nav a')];
    const asked = links.find(link => link.getAttribute('href') === location.hash) || links[0];
    const isNew = asked.getAttribute('aria-current') !== 'page';
    for (const link of links) link.removeAttribute('aria-current');
    asked.setAttribute('aria-current', 'page');
    document.getElementById('detail').hidden = asked.getAttribute('href') !== '#trials';
    const bar = asked.parentNode;
    if (isNew) bar.scrollLeft = asked.offsetLeft - bar.clientWidth / 2 + asked.clientWidth / 2;
    sheet.setAttribute('aria-busy', String('#' + sheet.dataset.page !== asked.getAttribute('href')));
  }

  function age(seconds) {
    if (seconds < 90) return Math.round(seconds) + ' s';
    if (seconds < 5400) return Math.round(seconds / 60) + ' min';
    return seconds < 172800 ? Math.round(seconds / 3600) + ' h' : Math.round(seconds / 86400) + ' days';
  }

  function tell() {
    for (const element of document.querySelectorAll('[data-since]')) {
      const time = 1000 * element.dataset.since;
      const text = `${new Date(time).toLocaleString('sv')} (${age(Math.max(0, Date.now() - time) / 1000)} ago)`;
      if (element.textContent !== text) element.textContent = text;
    }
    const lost = document.getElementById('lost');
    if (lost) lost.hidden = performance.now() - beat < patience;
  }

  new MutationObserver(records => {
    for (const record of records) {
      if (record.type === 'attributes') {
        if (record.attributeName === 'data-beat') answered();
        else if (record.attributeName === 'data-figure') draw(record.target);
        else if (record.attributeName === 'data-choices') offer(record.target);
        else mark();
        continue;
      }
      if (record.target.closest && record.target.closest('.plot')) continue;  // plotly at work
      for (const node of record.removedNodes) plotsIn(node).forEach(forget);
      for (const node of record.addedNodes) {
        plotsIn(node).forEach(plot => observer.observe(plot));
        if (node.nodeType !== 1) continue;
        if (node.querySelector('#sheet')) {
          mark();
          adaloss.label();
          offer(document.getElementById('choices'));
        }
        if (left.losses.size) adaloss.filter(node);
      }
    }
    tell();
  }).observe(document.documentElement, {
    subtree: true, childList: true, attributes: true, attributeFilter: ['data-figure', 'data-page', 'data-beat', 'data-choices'],
  });

  document.addEventListener('click', event => {
    const format = event.target.dataset && event.target.dataset.format;
    if (!format) return;
    const plot = event.target.closest('figure').querySelector('.plot');
    plot.isNear = true;
    draw(plot);
    Plotly.downloadImage(plot, {
      format, filename: plot.dataset.name, width: 800, height: plot.clientHeight, scale: format === 'png' ? 3 : 1,
    });
  });

  window.addEventListener('hashchange', () => { mark(); window.scrollTo(0, 0); });
  // While it is hidden it asks nothing.
  document.addEventListener('visibilitychange', () => { beat = performance.now() - interval; });
  setInterval(tell, 1000);
  // On paper the page in view is light and unfolded.
  let folded = [];
  window.addEventListener('beforeprint', () => {
    folded = [...document.querySelectorAll('details:not([open])')];
    folded.forEach(details => { details.open = true; });
    document.querySelectorAll('.plot').forEach(plot => { plot.isNear = true; });
    adaloss.setPrinting(true);
  });
  window.addEventListener('afterprint', () => {
    folded.forEach(details => { details.open = false; });
    adaloss.setPrinting(false);
  });
})();
