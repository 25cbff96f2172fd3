"""The frame of the live page, its style and its script: no content, nothing from a run's files."""

import base64
import hashlib
import json

from dash import dcc, html
from dash.development.base_component import Component

from analysis.page import STYLE
from analysis.plots import GRAPH_CONFIG, PAGES

__all__ = ["frame", "index_page"]

PATIENCE_S = 10.0  # an answer may take as long, and as many intervals as the script says


def frame() -> Component:
    """Return the page without its contents."""
    return html.Div(
        [
            html.Header(
                [
                    html.H1("Losses compared, live"),
                    html.P(
                        "The server of this page does not answer; what is shown is what it last said.",
                        id="lost",
                        className="problem",
                        hidden=True,
                        role="alert",
                    ),
                    html.Div(id="problems", role="alert"),
                    html.Div(id="head"),
                ]
            ),
            html.Nav([html.A(page.title, href=f"#{page.key}") for page in PAGES], **{"aria-label": "pages"}),
            html.Main([html.H2(id="page-title"), html.Div(id="sheet", className="pictures")]),
            html.Div(id="beat", hidden=True),
            dcc.Store(id="seen"),
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="tick"),
        ]
    )


_STYLE = """
#head { display: flex; flex-wrap: wrap; gap: 0 40px; margin-bottom: 0.8rem; }
.run { min-width: 0; max-width: 100%; }
.run h2 { margin: 0.4rem 0 0; }
.run p { margin: 0 0 0.3rem; font-size: 0.875rem; color: #444; }
.alive { color: #00694d; }
.ended { color: #444; }
.problem { margin: 0.4rem 0; padding: 0.4rem 0.7rem; border-left: 4px solid #D55E00; background: #fdf1ea;
  overflow-wrap: anywhere; }
@media (max-width: 600px) {
  #head table { font-size: 0.75rem; }
  #head th, #head td { padding: 0.2rem 0.1rem 0.2rem 0.25rem; }
  #head th:first-child { padding-left: 0; }
  #head thead th { white-space: normal; vertical-align: bottom; }
}
.slot { min-width: 0; }
.slot:empty { display: none; }
[aria-busy=true] { opacity: 0.45; }
._dash-loading { padding: 20px; }
"""

_SCRIPT = """
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
    if (!plot.isNear || plot.isDrawn === text) return;
    plot.isDrawn = text;
    const figure = JSON.parse(text);
    Plotly.react(plot, figure.data, figure.layout, config);
  }

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
        else mark();
        continue;
      }
      if (record.target.closest && record.target.closest('.plot')) continue;  // plotly at work
      for (const node of record.removedNodes) plotsIn(node).forEach(forget);
      for (const node of record.addedNodes) {
        plotsIn(node).forEach(plot => observer.observe(plot));
        if (node.nodeType === 1 && node.querySelector('#sheet')) mark();
      }
    }
    tell();
  }).observe(document.documentElement, {
    subtree: true, childList: true, attributes: true, attributeFilter: ['data-figure', 'data-page', 'data-beat'],
  });

  document.addEventListener('click', event => {
    const format = event.target.dataset && event.target.dataset.format;
    if (!format) return;
    const plot = event.target.closest('figure').querySelector('.plot');
    Plotly.downloadImage(plot, {
      format, filename: plot.dataset.name, width: 800, height: plot.clientHeight, scale: format === 'png' ? 3 : 1,
    });
  });

  window.addEventListener('hashchange', () => { mark(); window.scrollTo(0, 0); });
  // While it is hidden it asks nothing.
  document.addEventListener('visibilitychange', () => { beat = performance.now() - interval; });
  setInterval(tell, 1000);
})();
"""


def index_page(interval_s: float, plotlyjs: str) -> tuple[str, str]:
    """Return the HTML that holds the page, in Dash's form, and the hash of its script.

    Args:
        interval_s: seconds between updates.
        plotlyjs: address of plotly.js on this server.
    """
    numbers = {"INTERVAL_MS": round(1000 * interval_s), "PATIENCE_MS": round(1000 * PATIENCE_S)}
    script = _SCRIPT.replace("CONFIG", json.dumps(GRAPH_CONFIG))
    for name, value in numbers.items():
        script = script.replace(name, str(value))
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{%title%}}</title>
{{%favicon%}}
<style>{STYLE}{_STYLE}</style>
<script src="{plotlyjs}"></script>
<script>{script}</script>
</head>
<body>
{{%app_entry%}}
<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer>
</body>
</html>"""
    return page, f"'sha256-{hashed}'"
