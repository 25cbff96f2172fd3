"""The live page: follows runs from their files and updates in place. Nothing is computed while nothing changes.

The server keeps no state of a reader. Each browser sends what it has (digests of what it shows), and gets what differs.
"""

import errno
import logging
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, html, no_update, set_props
from werkzeug.serving import WSGIRequestHandler, make_server

from analysis.findings import Findings, findings
from analysis.live.blocks import Block, blocks_of, digest, head_of, slots_of, style_of
from analysis.live.follow import FollowedRun, runs_in
from analysis.live.frame import frame, index_page
from analysis.live.state import state_of
from analysis.loading import Run
from analysis.plots import PAGES, Page, Sheet
from analysis.plots.picture import PassingNote, labels
from tune.records import RecordError

__all__ = ["build_app", "serve"]

_LOG = logging.getLogger(__name__)
_PAGES = {page.key: page for page in PAGES}
_PASSING_S = 15.0  # a page that lacks what may come without a new record is drawn again so often
_PLOTLYJS = "_dash-component-suites/plotly/package_data/plotly.min.js"


class _Runs:
    """The followed runs and the page in view, shared by all browsers that look.

    Args:
        folders: of the runs, or that hold runs.
        interval_s: browsers that ask in quick succession make it look at the files once.
        reference: the loss that the others are held against in runs that have it; None for each run's own.
    """

    def __init__(self, folders: Iterable[Path], interval_s: float, reference: str | None = None) -> None:
        self._folders = list(folders)
        self._reference = reference
        self._followed: list[FollowedRun] = []
        self._interval_s = interval_s
        self._looked = -float("inf")
        self._lock = threading.Lock()
        self._start = secrets.token_hex(4)  # a browser that outlives the server has something of another one
        self._changes = 0
        self._found: list[Findings] | None = None  # computed once a change, whatever pages are looked at
        self._blocks: dict[str, list[Block]] = {}
        self._stale: dict[str, float] = {}  # when to draw a page again that lacks what may have come meanwhile

    def look(self, page: Page) -> tuple[str, list[Block], list[Any], list[Any]]:
        """Return the version of the records, the page's blocks, the head and the problems."""
        with self._lock:
            if time.monotonic() - self._looked > self._interval_s / 2:
                others = self._follow_what_is_there()
                changed = [followed.update() for followed in self._followed]  # all of them, whatever the first says
                if others or any(changed):
                    self._changes += 1
                    self._found = None
                    self._blocks.clear()
                self._looked = time.monotonic()
            if page.key in self._blocks and time.monotonic() >= self._stale.get(page.key, float("inf")):
                del self._blocks[page.key]
                self._changes += 1
            if page.key not in self._blocks:
                self._blocks[page.key] = self._built(page)
            return f"{self._start}-{self._changes}", self._blocks[page.key], self._head(), self._problems()

    def _follow_what_is_there(self) -> bool:
        """Return whether other runs are followed than before: a folder of runs gets new ones."""
        known = {followed.folder: followed for followed in self._followed}
        folders = runs_in(self._folders)
        self._followed = [known.get(folder) or FollowedRun(folder) for folder in folders]
        return list(known) != folders

    def _built(self, page: Page) -> list[Block]:
        runs = [followed.run for followed in self._followed if followed.run is not None]
        if not runs:
            return []
        try:
            if self._found is None:
                self._found = findings([self._as_asked(run) for run in runs])
            sheet = page.build(self._found)
        except Exception as error:  # noqa: BLE001  a page that cannot be drawn must not end the others
            _LOG.exception("the page %r cannot be drawn", page.title)
            sheet = Sheet(notes=(f"This page cannot be drawn: {type(error).__name__}: {error}",))
        self._stale.pop(page.key, None)
        if any(isinstance(note, PassingNote) for note in sheet.notes):
            self._stale[page.key] = time.monotonic() + _PASSING_S
        return blocks_of(page.key, sheet)

    def _as_asked(self, run: Run) -> Run:
        return run.against(self._reference) if self._reference in run.losses else run

    def _head(self) -> list[Any]:
        shown = [(followed, followed.run) for followed in self._followed if followed.run is not None]
        runs = [run for _, run in shown]
        names = [_name_of(run, label) for run, label in zip(runs, labels(runs), strict=True)]
        now = time.time()
        return head_of([(n, state_of(followed, run, now)) for n, (followed, run) in zip(names, shown, strict=True)])

    def _problems(self) -> list[Any]:
        texts = []
        for followed in self._followed:
            if followed.problem is not None:
                kept = "; shown as it was before" if followed.run is not None else "; nothing to show of it yet"
                texts.append(f"{followed.problem}{kept}")
            if followed.run is not None and self._reference is not None and self._reference not in followed.run.losses:
                losses = ", ".join(followed.run.losses)
                texts.append(f"{followed.folder}: --reference {self._reference} is none of its losses ({losses})")
        return [html.P(text, className="problem") for text in texts]


def _name_of(run: Run, label: str) -> str:
    return f"{label} (a part of the training images)" if run.info["dataset"]["partial"] else label


def build_app(folders: Sequence[Path], interval_s: float, reference: str | None = None) -> Dash:
    """Return the page as a Dash app.

    Args:
        folders: of the runs, which they need not hold yet, or folders of such folders, of which all are shown.
        interval_s: seconds between updates.
        reference: the loss that the others are held against in runs that have it; None for each run's own.
    """
    runs = _Runs(folders, interval_s, reference)
    app = Dash(
        __name__,
        title="Losses compared, live",
        update_title=None,
        serve_locally=True,
        include_assets_files=False,
        suppress_callback_exceptions=True,
        enable_mcp=False,
    )
    app.index_string, script_hash = index_page(interval_s, app.get_relative_path(f"/{_PLOTLYJS}"))
    app.layout = frame()

    @app.callback(  # type: ignore[untyped-decorator]
        Output("seen", "data"),
        Input("tick", "data"),
        Input("address", "hash"),
        State("seen", "data"),
    )
    def refresh(tick: float | None, address: str | None, seen: dict[str, Any] | None) -> Any:
        page = _PAGES.get((address or "").removeprefix("#"), PAGES[0])
        set_props("beat", {"data-beat": secrets.token_hex(4)})
        return _bring_up_to_date(page, runs, seen or {})

    app.server.wsgi_app = _Policed(app.server.wsgi_app, [script_hash, *app.csp_hashes()])
    return app


def _bring_up_to_date(page: Page, runs: _Runs, seen: dict[str, Any]) -> Any:
    """Send a browser what differs from what it has, and return what it has then."""
    version, blocks, head, problems = runs.look(page)
    around = {name: digest(children) for name, children in (("head", head), ("problems", problems))}
    for name, children in (("head", head), ("problems", problems)):
        if seen.get("around", {}).get(name) != around[name]:
            set_props(name, {"children": children})
    same_page = seen.get("page") == page.key
    if same_page and seen["version"] == version:
        return no_update if seen["around"] == around else {**seen, "around": around}
    updated = _update_slots(blocks, seen["slots"], seen["free"]) if same_page else None
    slots, free = updated or _new_slots(page, blocks)
    return {"page": page.key, "version": version, "around": around, "slots": slots, "free": free}


def _new_slots(page: Page, blocks: Sequence[Block]) -> tuple[dict[str, list[Any]], list[int]]:
    """Send a whole page, and return its slots, as :func:`_update_slots`."""
    children = slots_of(blocks)
    set_props("sheet", {"children": children, "data-page": page.key})
    set_props("page-title", {"children": page.title})
    return {block.key: [i, i, block.digests] for i, block in enumerate(blocks)}, [*range(len(blocks), len(children))]


def _update_slots(
    blocks: Sequence[Block], seen: Mapping[str, list[Any]], free: Sequence[int]
) -> tuple[dict[str, list[Any]], list[int]] | None:
    """Send what differs, and return the new slots; None where there are not enough of them.

    Args:
        blocks: of the page.
        seen: the slot, position and digests of the parts of each block that the browser has.
        free: slots that are empty.
    """
    keys = {block.key for block in blocks}
    gone = [slot for key, (slot, _, _) in seen.items() if key not in keys]
    free = [*free, *gone]
    if len(keys - set(seen)) > len(free):
        return None
    for slot in gone:
        set_props(f"slot-{slot}", {"children": None})
    slots = {}
    for position, block in enumerate(blocks):
        if block.key not in seen:
            slot = free.pop(0)
            set_props(f"slot-{slot}", {"children": block.component, "style": style_of(block, position)})
        else:
            slot, old_position, digests = seen[block.key]
            if old_position != position:
                set_props(f"slot-{slot}", {"style": style_of(block, position)})
            for part, properties in block.parts.items():
                if digests.get(part) != block.digests[part]:
                    set_props(part, properties)
        slots[block.key] = [slot, position, block.digests]
    return slots, free


_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Policed:
    """Forbids the browser to load anything from elsewhere, or to run a script that is not the page's.

    Args:
        app: to protect.
        script_hashes: of the scripts in the page, as a policy names them.
    """

    def __init__(self, app: _Wsgi, script_hashes: Sequence[str]) -> None:
        self._app = app
        policy = (
            f"default-src 'self'; script-src 'self' {' '.join(script_hashes)}; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._headers = [("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff")]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, *self._headers], *rest)

        return self._app(environ, start)


class _HostChecked:
    """Refuses requests that name another host: a foreign page whose name was made to point here must not read ours.

    Args:
        app: to protect.
        hosts: names under which it may be asked.
    """

    def __init__(self, app: _Wsgi, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _host_of(environ.get("HTTP_HOST", "")) in self._hosts:
            return self._app(environ, start_response)
        text = b"This page does not answer to this name; --host or --allowed-host gives it another one.\n"
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]


def _host_of(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name = header.partition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
    return name.lower().rstrip(".")


class _Quiet(WSGIRequestHandler):
    """Does not print a line for every request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Print nothing."""


def serve(
    folders: list[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8050,
    interval_s: float = 3.0,
    allowed_hosts: Sequence[str] = (),
    reference: str | None = None,
) -> None:
    """Show the live page until Ctrl-C.

    Args:
        folders: of runs, which may still be empty, or of folders of runs.
        host: address to listen on.
        port: 0 for any that is free.
        interval_s: seconds between updates.
        allowed_hosts: names under which browsers may ask for it; with none, any where it listens beyond this machine.
        reference: the loss that the others are held against in runs that have it; None for each run's own.

    Raises:
        RecordError: a folder does not exist, or the address cannot be listened on.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RecordError(f"{folder}: there is no such folder")
    app = build_app(folders, interval_s, reference)
    with _listening(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        protected: _Wsgi = app.server.wsgi_app
        names = {name.lower() for name in allowed_hosts}
        if _is_loopback(address):
            names |= {"localhost", "127.0.0.1", "[::1]", host.lower()}
        if names:
            protected = _HostChecked(protected, names)
        if not _is_loopback(address):
            print(f"warning: --host {host}: everybody who reaches this machine can read these runs", file=sys.stderr)
        server = make_server(
            address, bound_port, protected, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )
        shown = f"[{host}]" if ":" in host else host
        try:
            print(f"live page: http://{shown}:{bound_port}/ (ends with Ctrl-C)", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
        finally:
            server.server_close()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; that werkzeug ends the program itself where it cannot is not for us."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError):
        raise RecordError(f"--host {host}: is no address of this machine") from None
    except (OSError, OverflowError) as error:
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            raise RecordError(f"--port {port}: in use; choose another") from None
        if code == errno.EACCES:
            raise RecordError(f"--port {port}: not permitted; choose one above 1023") from None
        if code == errno.EADDRNOTAVAIL:
            raise RecordError(f"--host {host}: is no address of this machine") from None
        raise RecordError(f"--host {host} --port {port}: {error}") from None


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
