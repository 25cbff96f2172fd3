import os
import string
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import UserError
from tune.storage import url as study_url
from tune.storage.url import VARIABLE, StudyUrlError, check_driver, check_plain, hidden_secrets, login, plain_url

PLAIN = "postgresql://team@db.example:5433/studies"
SECRET = "pa:ss/w?o#r%d@ü 1"
WITH_SECRET = f"postgresql://team:{quote(SECRET, safe='')}@db.example:5433/studies"

names = st.text(string.ascii_letters + string.digits + "_.-ü @:/?#%&{}", min_size=1, max_size=12)
hosts = st.sampled_from(["db", "db.example.org", "127.0.0.1", "[::1]", ""])


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch):
    for name in (VARIABLE, "PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)


def error_of(function, *arguments):
    with pytest.raises(StudyUrlError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "\n" not in message
    return message


# --- The plain form --------------------------------------------------------------------------------------------------


def test_the_plain_form_has_everything_but_the_password():
    assert plain_url(WITH_SECRET) == PLAIN
    assert plain_url(f"{PLAIN}?password={quote(SECRET)}&sslmode=require") == f"{PLAIN}?sslmode=require"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+psycopg"])
def test_other_names_of_the_scheme_mean_the_same(scheme):
    assert plain_url(PLAIN.replace("postgresql", scheme)) == PLAIN


@given(user=names, password=names, host=hosts, port=st.integers(1, 65535), database=names)
def test_a_password_is_taken_out_whatever_it_is(user, password, host, port, database):
    password = f"<{password}>"  # so that it is not a part of something else by chance
    place = f"{host}:{port}" if host else ""
    user, database = quote(user, safe=""), quote(database, safe="")
    plain = plain_url(f"postgresql://{user}:{quote(password, safe='')}@{place}/{database}")
    assert plain == plain_url(f"postgresql://{user}@{place}/{database}")
    assert plain_url(plain) == plain
    for form in (password, quote(password), quote(password, safe="")):
        assert form not in plain
    check_plain(plain, "it")


@given(st.text(max_size=40), st.text(string.printable, min_size=1, max_size=20))
def test_no_message_shows_what_may_be_a_password(before, secret):
    """Whatever was mistyped: a special character that was not encoded puts a part of the password elsewhere."""
    secret = f"<<{secret}>>"
    url = f"postgresql://{before}:{secret}@host/db"
    try:
        shown = plain_url(url)
    except StudyUrlError as error:
        shown = str(error)
    assert "<<" not in shown
    assert ">>" not in shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", ["must be of the form postgresql://USER@HOST:PORT/DATABASE"]),
        ("studies", ["must be of the form"]),
        ("host:secret@db", ["must be of the form"]),
        ("postgresql:/host/db", ["must be of the form"]),
        ("mysql://user:secret@host/db", ["PostgreSQL", "not in mysql"]),
        ("sqlite:///study.db", ["PostgreSQL", "not in sqlite"]),
        ("postgresql+psycopg2://host/db", ["not in postgresql+psycopg2"]),
        ("postgresql://user:se@cret@host/db", ["percent-encoded", "%40"]),
        ("postgresql://host:secret/db", ["percent-encoded"]),
        ("postgresql://host:99999999/", ["no database"]),
        ("postgresql://user@host", ["names no database"]),
        ("postgresql://user@host/db?ssl_mode=require", ["parameters", "sslmode"]),
        ("postgresql://user@host/db?sslpassword=secret", ["parameters"]),
    ],
)
def test_what_is_no_address_is_refused_in_one_line(url, words):
    message = error_of(plain_url, url)
    for word in words:
        assert word in message
    assert "secret" not in message


@pytest.mark.parametrize("url", [WITH_SECRET, f"{PLAIN}?password=x", "postgresql://:p@h/d"])
def test_a_password_where_others_can_read_it_is_refused_with_the_ways_that_work(url):
    message = error_of(check_plain, url, "--study-storage")
    assert message.startswith("--study-storage holds a password")
    for way in ("PGPASSWORD", ".pgpass", "PGPASSFILE", VARIABLE):
        assert way in message
    assert SECRET not in message
    check_plain(PLAIN, "--study-storage")


# --- Getting in ------------------------------------------------------------------------------------------------------


def test_without_a_variable_libpq_is_left_to_find_a_password():
    found = login(PLAIN)
    assert (found.url, found.password, found.is_own) == (PLAIN, None, False)
    assert "password" not in found.arguments(5)


def test_the_password_in_the_variable_is_used_for_its_own_database_alone(monkeypatch):
    monkeypatch.setenv(VARIABLE, WITH_SECRET)
    found = login(PLAIN)
    assert (found.url, found.password, found.is_own) == (PLAIN, SECRET, True)
    assert found.arguments(5)["password"] == SECRET
    for other in (
        PLAIN.replace("db.example", "elsewhere"),
        PLAIN.replace("team", "admin"),
        PLAIN.replace("5433", "5432"),
        PLAIN.replace("studies", "other"),
        f"{PLAIN}?host=elsewhere",
    ):
        assert login(other).password is None, other
        assert not login(other).is_own, other


def test_the_default_port_may_be_left_out(monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql://team:secret@db/studies")
    assert login("postgresql://team@db:5432/studies").password == "secret"


def test_the_users_own_parameters_count(monkeypatch):
    """A recorded URL that says less about encryption does not lower it."""
    monkeypatch.setenv(VARIABLE, f"{WITH_SECRET}?sslmode=verify-full")
    assert login(f"{PLAIN}?sslmode=disable").url == f"{PLAIN}?sslmode=verify-full"


def test_a_variable_that_is_no_address_is_no_help(monkeypatch):
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert login(PLAIN).password is None


def test_a_login_does_not_show_its_password(monkeypatch):
    monkeypatch.setenv(VARIABLE, WITH_SECRET)
    found = login(PLAIN)
    assert SECRET not in repr(found)
    assert SECRET not in found.sqlalchemy_url
    error = psycopg.OperationalError(f"connection failed: who is {SECRET}?\nsecond line")
    assert found.reason(error) == "who is ***?"


def test_a_refused_password_is_followed_by_the_ways_to_give_one():
    error = psycopg.OperationalError('FATAL:  password authentication failed for user "team"')
    message = login(PLAIN).reason(error)
    assert 'password authentication failed for user "team"; ' in message
    assert "PGPASSWORD" in message


def test_braces_are_not_taken_for_a_template():
    url = login("postgresql://u@h/a%7Bb%7D").sqlalchemy_url
    assert url.format() == "postgresql+psycopg://u@h/a%7Bb%7D"


def test_a_missing_driver_is_named_with_what_installs_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    check_driver()
    monkeypatch.setattr(study_url.importlib, "import_module", missing)
    message = error_of(check_driver)
    assert "psycopg, which is not installed" in message
    assert "pip install" in message


def test_secrets_are_hidden_and_come_back(monkeypatch):
    monkeypatch.setenv(VARIABLE, WITH_SECRET)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    before = dict(os.environ)
    with hidden_secrets():
        assert set(before) - set(os.environ) == {VARIABLE, "PGPASSWORD"}
    assert dict(os.environ) == before
