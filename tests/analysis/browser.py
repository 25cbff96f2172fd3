"""A headless browser for tests of pages; they are skipped where there is none, and fail with REQUIRE_BROWSER=1.

@pytest.fixture(scope="module")
def browser():
    with headless_browser() as browser:
        yield browser
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WIDTHS = (1400, 420)  # px: a second screen, a telephone


def browser_path() -> str:
    """Return the program of a browser, or skip the test; with REQUIRE_BROWSER=1, fail it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser on this machine: none of {', '.join(NAMES)} is on PATH"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def headless_browser(profile: Path | None = None) -> Iterator[Any]:
    """Start the browser and end it.

    Args:
        profile: folder of what it keeps from one page to the next, such as compiled scripts; None keeps nothing.
    """
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as playwright:
        options: dict[str, Any] = {"executable_path": browser_path(), "args": OPTIONS}
        if profile is None:
            browser = playwright.chromium.launch(**options)
        else:
            browser = playwright.chromium.launch_persistent_context(profile, **options)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """What a page complains about, and what it asks the network for, collected while it is open.

    Args:
        page: of Playwright, before it goes anywhere.
        allowed: beginning of addresses that it may ask for.
    """

    def __init__(self, page: Any, allowed: str = "file://") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._requested(request.url, allowed))

    def _requested(self, url: str, allowed: str) -> None:
        if not url.startswith((allowed, "blob:", "data:")):
            self.requests.append(url)


OVERFLOWING = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# For each drawn plot that is seen: its traces, and the rectangles of what must not cover each other.
PLOTS = r"""() => [...document.querySelectorAll('.js-plotly-plot')].filter(g => g.offsetParent !== null).map(graph => {
  const box = element => {
    const r = element.getBoundingClientRect();
    return {left: r.left, top: r.top, right: r.right, bottom: r.bottom};
  };
  const all = selector => [...graph.querySelectorAll(selector)]
    .filter(e => e.getBoundingClientRect().width > 0).map(e => ({
      text: (e.textContent || '').slice(0, 60),
      turned: /rotate\((?!0[,)])/.test(e.getAttribute('transform')),
      ...box(e),
    }));
  return {
    id: graph.id, box: box(graph),
    traces: graph._fullData.filter(t => t.visible === true).length,
    marks: graph.querySelectorAll('.trace path, .points path, .hm image, .bars path, .boxlayer path, .point').length,
    panels: all('.nsewdrag'), titles: all('.infolayer [class^="g-x"] text, .infolayer [class^="g-y"] text'),
    legends: all('.legend'), ticks: all('.xtick text, .ytick text'),
  };
})"""
