// The table of trials on the static page: sorted, filtered and opened without anything else being loaded.
(() => {
  'use strict';
  const root = document.getElementById('trials-table');
  if (!root) return;
  const told = JSON.parse(document.getElementById('trials').textContent);
  const common = JSON.parse(document.getElementById('common').textContent);
  const PER_PAGE = 25;
  const trials = told.trials.map((values, index) => {
    const [run, loss, status, number, accuracy, epochs, seconds, node, settings, curve, margins, error, command] = values;
    return {
      index, run, loss: told.losses[loss], status: told.statuses[status], number, accuracy, epochs, seconds,
      node: told.nodes[node], settings, curve, margins, error, command: told.commands[run][command],
      id: typeof number === 'string' ? number : `${told.losses[loss].key}-${String(number).padStart(4, '0')}`,
      words: settings.map(([name, value]) => `${told.names[name][1]} ${value}`).join(', '),
    };
  });
  let runs = null, order = null, descending = false, page = 0, opened = null;

  const COLUMNS = [
    ['trial', trial => trial.id],
    ...(told.runs.length > 1 ? [['run', trial => trial.run]] : []),
    ['loss', trial => trial.loss.place],
    ['status', trial => trial.status],
    ['val. acc. (%)', trial => trial.accuracy ?? -1, 'number'],
    ['epochs', trial => trial.epochs, 'number'],
    ['settings', trial => trial.words, 'words'],
    ['seconds', trial => trial.seconds, 'number'],
    ['node', trial => trial.node],
  ];

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  function chosen() {
    const text = root.querySelector('[type=search]').value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const [loss, status] = [...root.querySelectorAll('select')].map(select => select.value);
    const found = trials.filter(trial => {
      if (runs && !runs.has(trial.run)) return false;
      if (adaloss.isLossHidden(trial.loss.key) || (loss && trial.loss.key !== loss)) return false;
      if (status && trial.status !== status) return false;
      const all = `${trial.id} ${trial.loss.name} ${trial.words} ${trial.node} ${trial.error || ''}`.toLowerCase();
      return text.every(word => all.includes(word));
    });
    if (order === null) return found;
    const value = COLUMNS[order][1], sign = descending ? -1 : 1;
    return found.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (typeof x === 'string' ? x.localeCompare(y, 'en', {numeric: true}) : x - y) || a.index - b.index;
    });
  }

  function render() {
    const found = chosen();
    page = Math.max(0, Math.min(page, Math.ceil(found.length / PER_PAGE) - 1));
    const seen = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    const first = page * PER_PAGE;
    const many = n => n.toLocaleString('en');
    root.querySelector('output').textContent = found.length
      ? `${many(first + 1)} to ${many(first + seen.length)} of ${many(found.length)}` : 'no trial is like that';
    root.querySelector('[data-step="-1"]').disabled = page === 0;
    root.querySelector('[data-step="1"]').disabled = first + seen.length >= found.length;
    root.querySelectorAll('thead th').forEach((head, i) => {
      if (i === order) head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    const body = root.querySelector('tbody');
    body.querySelectorAll('.plot').forEach(plot => Plotly.purge(plot));
    body.replaceChildren(...seen.flatMap(rowsOf));
    if (opened !== null) drawCurve();
  }

  function rowsOf(trial) {
    const isOpen = opened === trial.index;
    const button = element('button', {type: 'button', className: 'open', textContent: trial.id});
    button.dataset.trial = trial.index;
    button.setAttribute('aria-expanded', String(isOpen));
    const name = element('th', {scope: 'row'}, button);
    const percent = trial.accuracy === null ? '-' : (trial.accuracy / 100).toFixed(2);
    const row = element('tr', {className: isOpen ? 'opened' : ''}, name);
    const cells = [
      ...(told.runs.length > 1 ? [[told.runs[trial.run]]] : []),
      [trial.loss.name], [trial.status, trial.status === 'failed' ? 'problem' : ''], [percent, 'number'],
      [trial.epochs, 'number'], [trial.words, 'words'], [trial.seconds.toFixed(1), 'number'], [trial.node || '-'],
    ];
    row.append(...cells.map(([text, className = '']) => (
      element('td', {textContent: text, className, title: className === 'words' ? text : ''}))));
    if (!isOpen) return [row];
    const cell = element('td', {colSpan: COLUMNS.length}, detailOf(trial));
    return [row, element('tr', {className: 'detail'}, cell)];
  }

  function detailOf(trial) {
    const list = element('dl', {}, ...trial.settings.flatMap(([name, value]) => [
      element('dt', {textContent: told.names[name][0]}), element('dd', {textContent: value}),
    ]));
    const [start, before, after, purpose] = trial.command;
    const code = element('code', {textContent: after === null ? before : before + trial.id + after, tabIndex: 0});
    const button = element('button', {type: 'button', textContent: 'Copy'});
    button.dataset.copy = '';
    const parts = [
      element('div', {className: 'halves'},
        element('div', {}, element('h4', {textContent: 'Accuracy by epoch'}), trial.curve.length
          ? element('div', {className: 'plot', id: 'plot-trial'})
          : element('p', {textContent: 'No epoch has been recorded.'})),
        element('div', {}, element('h4', {textContent: 'Settings'}), list)),
    ];
    if (trial.error) {
      parts.push(element('h4', {textContent: 'Error'}), element('pre', {textContent: trial.error, tabIndex: 0}));
    }
    parts.push(element('h4', {textContent: start}), element('div', {className: 'command'}, code, button),
      element('p', {textContent: purpose}));
    return element('div', {className: 'trial'}, ...parts);
  }

  function drawCurve() {
    const plot = document.getElementById('plot-trial');
    if (!plot) return;
    const trial = trials[opened];
    const x = trial.curve.map(([epoch]) => epoch), {colour} = trial.loss;
    const accuracy = trial.curve.map(([, value]) => (value === null ? null : value / 100));
    const data = [{
      x, y: accuracy, mode: 'lines+markers', name: 'val. accuracy', line: {color: colour, width: 2.4},
      marker: {color: colour, size: 5}, hovertemplate: 'epoch %{x}: %{y:.2f} %<extra></extra>',
    }];
    const layout = {
      template: common.template, height: 260, showlegend: false, margin: {l: 8, r: 8, t: 22, b: 8},
      xaxis: {title: {text: 'epoch'}}, yaxis: {title: {text: 'val. accuracy (%)'}},
    };
    if (trial.margins.some(value => value !== null)) {
      data.push({
        x, y: trial.margins.map(value => (value === null ? null : value / 1e4)), mode: 'lines', name: 'margin',
        line: {color: '#767676', width: 1.8, dash: 'dot'}, yaxis: 'y2',
        hovertemplate: 'epoch %{x}: margin %{y:.3f} rad<extra></extra>',
      });
      layout.yaxis2 = {title: {text: 'margin (rad)'}, overlaying: 'y', side: 'right', showgrid: false, automargin: true,
        rangemode: 'tozero', tickmode: 'auto', showline: true};
      layout.showlegend = true;
    }
    const now = adaloss.shown({data, layout});
    Plotly.react(plot, now.data, now.layout, common.config);
  }

  // --- What a reader does ---------------------------------------------------------------------------------------------

  const head = element('tr', {}, ...COLUMNS.map(([name, , kind], i) => {
    const button = element('button', {type: 'button', textContent: name});
    button.dataset.column = i;
    return element('th', {scope: 'col', className: kind === 'number' ? 'number' : ''}, button);
  }));
  root.querySelector('thead').append(head);
  root.addEventListener('input', () => { page = 0; render(); });
  root.addEventListener('click', event => {
    const {column, step, trial} = event.target.dataset;
    if (column !== undefined) {
      descending = order === Number(column) ? !descending : COLUMNS[column][2] === 'number';
      [order, page] = [Number(column), 0];
    } else if (step !== undefined) {
      page += Number(step);
    } else if (trial !== undefined) {
      opened = opened === Number(trial) ? null : Number(trial);
    } else {
      return;
    }
    render();
    if (trial !== undefined) root.querySelector(`[data-trial="${trial}"]`).focus();
  });
  document.addEventListener('runs-chosen', event => { runs = event.detail; render(); });
  adaloss.onChange(render);
  render();
})();
