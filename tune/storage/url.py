"""The address of a team's database: checked, kept without its password, and where the password comes from instead.

A command line is seen in the list of processes and recorded in ``run.json``, so a password has no place there. libpq
takes one from ``PGPASSWORD``, or from ``~/.pgpass`` or the file that ``PGPASSFILE`` names; we take one from the URL in
``ADALOSS_STUDY_STORAGE`` too. What is written or printed is the plain URL, which has none.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError

if TYPE_CHECKING:  # where it is needed it is imported: half a second, for which a run without a database need not wait
    from sqlalchemy.engine import URL

__all__ = ["VARIABLE", "Login", "StudyUrlError", "check_driver", "check_plain", "hidden_secrets", "login", "plain_url"]

VARIABLE = "ADALOSS_STUDY_STORAGE"
_SECRET_VARIABLES = (VARIABLE, "PGPASSWORD")
_FORM = "postgresql://USER@HOST:PORT/DATABASE"
_WAYS = f"give it in PGPASSWORD, in ~/.pgpass (or the file that PGPASSFILE names), or in the URL in {VARIABLE}"
_SCHEMES = {"postgresql", "postgres", "postgresql+psycopg"}
_PARAMETERS = {
    *("host", "port", "passfile", "service", "options", "target_session_attrs", "application_name"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode"),
}


class StudyUrlError(UserError):
    """An address that cannot be used; the message shows no part of it that could be a password."""


@dataclass(frozen=True)
class Login:
    """A database and how to get in.

    Args:
        url: plain.
        password: or None for libpq to find one.
        is_own: whether the user's own environment names this database, so that it may be trusted with a password.
    """

    url: str
    password: str | None = field(repr=False)
    is_own: bool

    def arguments(self, timeout_s: int) -> dict[str, Any]:
        """Return what psycopg is to be told beside the URL: a server that is gone is noticed within seconds.

        Args:
            timeout_s: for connecting, for each address of the host.
        """
        arguments: dict[str, Any] = {
            "connect_timeout": timeout_s,
            "keepalives_idle": 10,  # s
            "keepalives_interval": 5,  # s
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,  # ms
            "fallback_application_name": "adaloss-search",
        }
        return arguments if self.password is None else {**arguments, "password": self.password}

    @property
    def sqlalchemy_url(self) -> str:
        """The plain URL with the driver's name, and braces doubled, which Optuna takes for a template's."""
        from sqlalchemy.engine import make_url

        url = make_url(self.url).set(drivername="postgresql+psycopg")
        return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")

    def reason(self, error: BaseException) -> str:
        """Return in one line why the database could not be used."""
        text = str(getattr(error, "orig", None) or error).strip()
        line = text.partition("\n")[0].removeprefix("connection failed: ") or type(error).__name__
        if self.password:
            line = line.replace(self.password, "***")
        if "no password supplied" in line or "password authentication failed" in line:
            line += f"; if the password is not what it should be, {_WAYS}"
        return line


def plain_url(text: str) -> str:
    """Return a URL in its plain form, without the password that it may hold.

    Raises:
        StudyUrlError: it is no address of a PostgreSQL database.
    """
    return _parsed(text)[0]


def check_plain(text: str, where: str) -> None:
    """Raise StudyUrlError unless a URL is good and holds no password.

    Args:
        text: the URL.
        where: it was found.
    """
    if _parsed(text)[1]:
        raise StudyUrlError(f"{where} holds a password, which others can read there; leave it out and {_WAYS}")


def login(url: str) -> Login:
    """Return how to get into a database, with the password in the user's environment where that names the same one.

    Args:
        url: plain.
    """
    with contextlib.suppress(StudyUrlError):
        own, password = _parsed(os.environ.get(VARIABLE, ""))
        if _place(own) == _place(url):
            return Login(own, password, is_own=True)
    return Login(url, None, is_own=False)


def check_driver() -> None:
    """Raise StudyUrlError unless the package that talks to PostgreSQL is installed."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:  # also where it finds no libpq
        missing = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be loaded"
        raise StudyUrlError(
            f"--study-storage needs the package psycopg, which {missing}: pip install 'psycopg[binary]'"
        ) from None


@contextlib.contextmanager
def hidden_secrets() -> Iterator[None]:
    """Keep passwords out of the environment of processes that are started while the context lasts."""
    hidden = {name: os.environ.pop(name) for name in _SECRET_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _parsed(text: str) -> tuple[str, str | None]:
    """Return a URL's plain form and its password."""
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    text = text.strip("\r\n\t")  # a variable may be read from a file
    scheme, mark, rest = text.partition("://")
    if not mark or not re.fullmatch(r"[a-z][a-z0-9+]{0,30}", scheme):
        raise StudyUrlError(f"--study-storage must be of the form {_FORM}")
    if scheme not in _SCHEMES:
        raise StudyUrlError(f"--study-storage: a team's studies are kept in PostgreSQL, {_FORM}, and not in {scheme}")
    if rest.count("@") > 1:
        raise StudyUrlError("--study-storage: special characters must be percent-encoded, such as @ as %40")
    try:
        url = make_url(f"postgresql://{rest}")
    except (ArgumentError, ValueError):  # their messages show what may be a password
        raise StudyUrlError(
            f"--study-storage must be of the form {_FORM}, with special characters percent-encoded"
        ) from None
    if not url.database:
        raise StudyUrlError(f"--study-storage names no database; it must be of the form {_FORM}")
    if not set(url.query) <= {*_PARAMETERS, "password"}:
        raise StudyUrlError(f"--study-storage: parameters after ? can be {', '.join(sorted(_PARAMETERS))}")
    plain = URL.create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query={key: value for key, value in url.query.items() if key != "password"},
    )
    return plain.render_as_string(hide_password=False), _password_of(url)


def _password_of(url: "URL") -> str | None:
    in_query = url.query.get("password")
    return str(url.password or "") or (in_query if isinstance(in_query, str) else "".join(in_query or ())) or None


def _place(plain: str) -> tuple[Any, ...]:
    from sqlalchemy.engine import make_url

    url = make_url(plain)
    return (url.username, url.host, url.port or 5432, url.database, *(url.query.get(key) for key in ("host", "port")))
