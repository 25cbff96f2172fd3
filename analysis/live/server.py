"""The live page: follows runs from their files and updates in place. Nothing is computed while nothing changes.

The server keeps no state of a reader. Each browser sends what it has (digests of what it shows), and gets what differs.
"""

import errno
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, no_update, set_props
from werkzeug.serving import WSGIRequestHandler, make_server

from analysis.live.blocks import Block, digest, slots_of, style_of
from analysis.live.frame import frame, index_page
from analysis.live.grid import GRID
from analysis.live.runs import Runs
from analysis.plots import PAGES, Page
from tune.records import RecordError

__all__ = ["build_app", "serve"]

_PAGES = {page.key: page for page in PAGES}
_PLOTLYJS = "_dash-component-suites/plotly/package_data/plotly.min.js"


def build_app(folders: Sequence[Path], interval_s: float, reference: str | None = None) -> Dash:
    """Return the page as a Dash app.

    Args:
        folders: of the runs, which they need not hold yet, or folders of such folders, of which all are shown.
        interval_s: seconds between updates.
        reference: the loss that the others are held against in runs that have it; None for each run's own.
    """
    runs = Runs(folders, interval_s, reference)
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
        Input("left-out", "data"),
        Input("opened", "data"),
        State("seen", "data"),
    )
    def refresh(
        tick: float | None, address: str | None, left_out: Any, opened: Any, seen: dict[str, Any] | None
    ) -> Any:
        page = _PAGES.get((address or "").removeprefix("#"), PAGES[0])
        set_props("beat", {"data-beat": secrets.token_hex(4)})
        return _bring_up_to_date(page, runs, seen or {}, _texts(left_out), next(iter(_texts([opened])), None))

    @app.callback(Output("opened", "data"), Input(GRID, "selectedRows"), prevent_initial_call=True)  # type: ignore[untyped-decorator]
    def open_trial(selected: Any) -> Any:
        row = selected[0] if isinstance(selected, list) and selected else None
        return row.get("id") if isinstance(row, dict) else no_update

    app.server.wsgi_app = _Policed(app.server.wsgi_app, [script_hash, *app.csp_hashes()])
    return app


def _texts(values: Any) -> list[str]:
    """Return the texts among what a browser sent."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _bring_up_to_date(
    page: Page, runs: Runs, seen: dict[str, Any], left_out: Sequence[str] = (), opened: str | None = None
) -> Any:
    """Send a browser what differs from what it has, and return what it has then."""
    look = runs.look(page, frozenset(left_out), opened)
    parts: dict[str, dict[str, Any]] = {
        "head": {"children": look.head},
        "problems": {"children": look.problems},
        "choices": {"data-choices": look.choices},
        "detail": {"children": look.detail},
    }
    around = {name: digest(properties) for name, properties in parts.items()}
    for name, properties in parts.items():
        if seen.get("around", {}).get(name) != around[name]:
            set_props(name, properties)
    same_page = seen.get("page") == page.key
    if same_page and seen["version"] == look.version:
        return no_update if seen["around"] == around else {**seen, "around": around}
    # A table of trials of other runs, or of another server, is another one.
    is_continued = same_page and seen["version"].rpartition("-")[0] == look.version.rpartition("-")[0]
    updated = _update_slots(look.blocks, seen["slots"], seen["free"], is_continued) if same_page else None
    slots, free = updated or _new_slots(page, look.blocks)
    return {"page": page.key, "version": look.version, "around": around, "slots": slots, "free": free}


def _new_slots(page: Page, blocks: Sequence[Block]) -> tuple[dict[str, list[Any]], list[int]]:
    """Send a whole page, and return its slots, as :func:`_update_slots`."""
    children = slots_of(blocks)
    set_props("sheet", {"children": children, "data-page": page.key})
    set_props("page-title", {"children": page.title})
    return {block.key: [i, i, block.digests] for i, block in enumerate(blocks)}, [*range(len(blocks), len(children))]


def _update_slots(
    blocks: Sequence[Block], seen: Mapping[str, list[Any]], free: Sequence[int], is_continued: bool
) -> tuple[dict[str, list[Any]], list[int]] | None:
    """Send what differs, and return the new slots; None where there are not enough of them.

    Args:
        blocks: of the page.
        seen: the slot, position and digests of the parts of each block that the browser has.
        free: slots that are empty.
        is_continued: whether what the browser has is an earlier state of the same, not of another server's or choice.
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
            for part in block.parts:
                has = digests.get(part) if is_continued or block.rows is None else None
                if has != block.digests[part]:
                    set_props(part, block.update_of(part, has))
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
