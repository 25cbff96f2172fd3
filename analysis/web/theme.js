// Shared by the static and the live page: light and dark, which losses are shown, and what can be copied.
const adaloss = (() => {
  'use strict';
  const THEMES = ['auto', 'light', 'dark'];
  const PAPER = [22, 25, 29];
  const listeners = [];
  let isPrinting = false;
  const hiddenLosses = new Set();
  const names = {};  // of losses in figures, by the loss

  const system = matchMedia('(prefers-color-scheme: dark)');
  const theme = () => document.documentElement.dataset.theme || 'auto';
  const isDark = () => !isPrinting && (theme() === 'dark' || (theme() === 'auto' && system.matches));

  function kept() {
    try { return localStorage.getItem('adaloss-theme'); } catch { return null; }  // no storage for this page
  }

  function setTheme(wanted) {
    const name = THEMES.includes(wanted) ? wanted : 'auto';
    if (name === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    try { localStorage.setItem('adaloss-theme', name); } catch { /* kept as long as the page is open */ }
    label();
    changed();
  }

  function label() {
    const button = document.getElementById('theme');
    const text = {auto: 'Colours: system', light: 'Colours: light', dark: 'Colours: dark'}[theme()];
    if (button && button.textContent !== text) button.textContent = text;
    if (document.body) document.body.dataset.agThemeMode = isDark() ? 'dark' : 'light';
  }

  const changed = () => listeners.forEach(listener => listener());

  // --- Figures in the dark: the same hues, light enough to be seen; text and paper change places ---------------------

  const luminance = ([r, g, b]) => [r, g, b].reduce((sum, part, i) => {
    const share = part / 255;
    return sum + [0.2126, 0.7152, 0.0722][i] * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const NAMED = {white: [255, 255, 255], black: [0, 0, 0]};

  function parsed(text) {
    if (text in NAMED) return [...NAMED[text], 1];
    let match = /^#([0-9a-f]{6})$/i.exec(text);
    if (match) return [...[0, 2, 4].map(i => parseInt(match[1].slice(i, i + 2), 16)), 1];
    match = /^rgba?\(([\d.]+),\s*([\d.]+),\s*([\d.]+)(?:,\s*([\d.]+))?\)$/.exec(text);
    return match && [...match.slice(1, 4).map(Number), match[4] === undefined ? 1 : Number(match[4])];
  }

  // Greys are turned over; hues are mixed with white until they stand out from the paper.
  function inTheDark(text) {
    const colour = parsed(text);
    if (!colour) return text;
    let [r, g, b, alpha] = colour;
    if (Math.max(r, g, b) - Math.min(r, g, b) < 12) {
      const share = 1 - (r + g + b) / 765;
      [r, g, b] = PAPER.map(part => part + share * (238 - part));
    } else {
      const paper = luminance(PAPER);
      for (let i = 0; i < 12 && contrast(luminance([r, g, b]), paper) < 4.5; i++) {
        [r, g, b] = [r, g, b].map(part => part + 0.12 * (255 - part));
      }
    }
    return `rgba(${[r, g, b].map(Math.round).join(',')},${alpha})`;
  }

  function darkened(value, key) {
    if (key === 'colorscale') return value;
    if (typeof value === 'string') return /color$|^color|^bgcolor/i.test(key) || NAMED[value] ? inTheDark(value) : value;
    if (Array.isArray(value)) {
      return typeof value[0] === 'number' ? value : value.map(item => darkened(item, key));
    }
    if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, darkened(item, name)]));
  }

  const isHidden = trace => [...hiddenLosses].some(loss => {
    const name = trace.name || '';
    return trace.legendgroup === loss || name === names[loss] || name.startsWith(`${names[loss]},`);
  });

  // Return a figure as it is to be drawn now.
  function shown(figure) {
    const data = hiddenLosses.size ? figure.data.filter(trace => !isHidden(trace)) : figure.data;
    const now = {data, layout: figure.layout};
    return isDark() ? darkened(now, '') : now;
  }

  // --- Losses ---------------------------------------------------------------------------------------------------------

  const split = text => (text ? text.split(' ') : []);

  function chooseLosses(inputs) {
    hiddenLosses.clear();
    for (const input of inputs) {
      names[input.value] = input.dataset.name;
      if (!input.checked) hiddenLosses.add(input.value);
    }
    filter(document);
    changed();
  }

  function filter(root) {
    for (const element of root.querySelectorAll('[data-arms]')) {
      const isOut = split(element.dataset.arms).some(arm => hiddenLosses.has(decodeURIComponent(arm)));
      element.toggleAttribute('data-loss-out', isOut);
    }
  }

  // --- Copying --------------------------------------------------------------------------------------------------------

  async function copy(button) {
    const text = button.parentNode.querySelector('code').textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no permission, or a page that is no secure context
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  }

  document.addEventListener('click', event => {
    const button = event.target.closest && event.target.closest('button');
    if (!button) return;
    if (button.id === 'theme') setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % 3]);
    if (button.dataset.copy !== undefined) copy(button);
  });
  const start = kept();
  if (start && start !== 'auto') document.documentElement.dataset.theme = start;
  system.addEventListener('change', () => { label(); changed(); });
  document.addEventListener('DOMContentLoaded', label);

  return {
    shown, isDark, label, filter, chooseLosses,
    isLossHidden: loss => hiddenLosses.has(loss),
    onChange: listener => listeners.push(listener),
    setPrinting: value => { isPrinting = value; changed(); },
  };
})();
