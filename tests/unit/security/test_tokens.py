"""Tokens on disk: made once and for one user only, believed only as such, and never shown."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from levity.errors import Conflict, InvalidRequest, LevityError
from levity.protocol.token_proof import format_token, make_nonce
from supervisor.security import private_files as private
from supervisor.security.principal import local_user
from supervisor.security.private_files import NotPrivateError
from supervisor.security.roles import Role
from supervisor.security.tokens import TOKENS_LIMIT, TokenStore, own_name
from tests.support.paths import ROOT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")
KEY = bytes(range(32))
TOKEN = format_token(KEY)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def store(directory: Path) -> Iterator[TokenStore]:
    with TokenStore(str(directory)) as one:
        yield one


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def record(**changes: object) -> str:
    return json.dumps({"version": 1, "token": TOKEN, "role": "user", "created_ns": 1, **changes})


def test_the_own_token_is_made_once(store: TokenStore, directory: Path) -> None:
    assert store.own() is None
    made = store.ensure_own()
    assert (made.name, made.role) == (own_name(), Role.ADMIN)
    assert store.ensure_own() == made == store.own() == store.get(own_name())
    path = directory / "token"
    assert path.read_text() == f"{made.text}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_has_256_bits_and_is_another_each_time(store: TokenStore) -> None:
    keys = {store.ensure_own().key, *(store.add(f"user{n}", Role.USER).key for n in range(50))}
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 51


def test_many_at_once_make_one_token(directory: Path) -> None:
    code = (
        "import sys; from supervisor.security.tokens import TokenStore; "
        "print(TokenStore(sys.argv[1]).ensure_own().text)"
    )
    command = [sys.executable, "-c", code, str(directory)]
    found = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    texts = {one.communicate(timeout=30)[0] for one in found}
    assert texts == {(directory / "token").read_text()}
    assert sorted(os.listdir(directory)) == ["token", "tokens.lock"]


def test_added_listed_found_revoked(store: TokenStore, directory: Path) -> None:
    alice, bob = store.add("alice", Role.VIEWER), store.add("bob", Role.ADMIN)
    assert store.all() == [alice, bob]
    assert store.get("alice") == alice
    assert stat.S_IMODE((directory / "tokens").stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "tokens" / "alice").stat().st_mode) == 0o600
    with TokenStore(str(directory)) as other:
        assert other.all() == [alice, bob]
    store.revoke("alice")
    assert store.all() == [bob]
    assert store.get("alice") is None
    for name in ("alice", "", "../token", "tokens", own_name(), "a" * 65):
        with pytest.raises(LevityError, match="no token"):
            store.revoke(name)
    assert sorted(os.listdir(directory)) == ["tokens", "tokens.lock"]
    assert os.listdir(directory / "tokens") == ["bob"]


def test_a_user_has_one_token(store: TokenStore) -> None:
    first = store.add("alice", Role.USER)
    with pytest.raises(Conflict, match="revoke alice"):
        store.add("alice", Role.ADMIN)
    with pytest.raises(Conflict, match="token show"):
        store.add(own_name(), Role.VIEWER)
    assert store.all() == [first]


def test_the_own_token_is_replaced(store: TokenStore) -> None:
    first = store.ensure_own()
    store.revoke(own_name())
    second = store.ensure_own()
    assert store.by_nonce(make_nonce(first.key)) is None
    assert store.by_nonce(make_nonce(second.key)) == second


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "a\nb", "ü", "a" * 65, "uid:7"])
def test_a_name_that_is_none(store: TokenStore, directory: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.add(name, Role.USER)
    with pytest.raises(InvalidRequest):
        store.set_role(name, Role.USER)
    assert store.get(name) is None
    assert os.listdir(directory) == []


def test_there_is_a_limit(store: TokenStore, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for n in range(TOKENS_LIMIT):
        write(directory / "tokens" / f"user{n:04}", record())
    with pytest.raises(LevityError, match="revoke one"):
        store.add("one-more", Role.USER)
    assert len(store.all()) == TOKENS_LIMIT
    assert capfd.readouterr().err == ""
    write(directory / "tokens" / "zoe", record())
    assert "zoe" not in {token.name for token in store.all()}
    assert "1001" in capfd.readouterr().err


def test_by_nonce(store: TokenStore) -> None:
    own, alice = store.ensure_own(), store.add("alice", Role.USER)
    for _ in range(2):
        assert store.by_nonce(make_nonce(own.key)) == own
        assert store.by_nonce(make_nonce(alice.key)) == alice
    for unknown in (make_nonce(KEY), b"", bytes(32), make_nonce(alice.key)[:-1], make_nonce(alice.key)[::-1]):
        assert store.by_nonce(unknown) is None


def settled(directory: Path, store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second pass in which every version is a new one."""
    later = max(path.stat().st_ctime_ns for path in directory.rglob("*")) + 2 * 10**9
    monkeypatch.setattr("time.time_ns", lambda: later)
    assert store.version() == store.version()


def test_every_change_shows_in_the_version(store: TokenStore, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [store.version()]
    assert store.version() == seen[0]
    changes: list[Callable[[], object]] = [
        store.ensure_own,
        lambda: store.add("alice", Role.USER),
        lambda: store.add("bob", Role.USER),
        lambda: store.revoke("alice"),
        lambda: store.add("alice", Role.VIEWER),
        lambda: store.set_role("alice", Role.VIEWER),
        lambda: store.set_role("alice", None),
        lambda: store.revoke(own_name()),
        lambda: shutil.rmtree(directory / "tokens"),
    ]
    for change in changes:
        change()
        with monkeypatch.context() as patch:
            settled(directory, store, patch)
            seen.append(store.version())
    assert len(set(seen)) == len(seen)


def test_two_changes_within_a_tick_both_count(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock for files that is as coarse as none is: a new kernel's is finer than that of most there are."""
    real = os.stat

    def coarse(name: str, **options: Any) -> SimpleNamespace:
        found = real(name, **options)
        times = {key: getattr(found, key) // 10**8 * 10**8 for key in ("st_mtime_ns", "st_ctime_ns")}
        return SimpleNamespace(**{key: getattr(found, key) for key in dir(found) if key.startswith("st_")} | times)

    monkeypatch.setattr("supervisor.security.tokens.os.stat", coarse)
    for n in range(50):
        one = store.add(f"user{n}", Role.USER)
        assert store.by_nonce(make_nonce(one.key)) == one
        store.revoke(one.name)
        assert store.by_nonce(make_nonce(one.key)) is None


def test_an_unchanged_file_is_not_read_again(
    store: TokenStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = store.add("alice", Role.USER)
    settled(directory, store, monkeypatch)
    assert store.by_nonce(make_nonce(alice.key)) == alice
    monkeypatch.setattr(private, "read", None)
    assert store.by_nonce(make_nonce(alice.key)) == alice


# What is not believed

BAD = [b"", b"\n", b"{}", b"[]", b"7", b"null", b"\xff\xfe", b"\0" * 300, b"[" * 4096, b"levity_", TOKEN[:-1].encode()]
BAD += [
    record(**change).encode()
    for change in (
        {"role": "root"},
        {"role": None},
        {"role": ["user"]},
        {"token": 7},
        {"token": "levity_"},
        {"token": None},
        {"created_ns": "x"},
        {"version": "1"},
        {"version": 2},
    )
]


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize("content", BAD)
def test_a_damaged_file_is_passed_over_with_a_line(
    store: TokenStore, directory: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    alice = store.add("alice", Role.USER)
    write(directory / "tokens" / "bob", content)
    write(directory / "token", content)
    for _ in range(2):
        assert store.all() == [alice]
    said = lines(capfd)
    assert [line.split()[2] for line in said] == ["token:", "tokens/bob:"]
    assert "levity_" not in "".join(said)
    with pytest.raises(LevityError, match="token: "):
        store.ensure_own()
    store.revoke("bob")
    store.revoke(own_name())
    store.ensure_own()
    store.add("bob", Role.USER)


SECRETS = re.compile(r"[0-9a-f]{16}")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))))
@example(f"{TOKEN} {TOKEN}".encode())
@example(f"x{TOKEN}".encode())
@example(record(extra=KEY.hex())[:-1].encode())
@example(record(role=TOKEN).encode())
@example(record(token=TOKEN + "0").encode())
def test_whatever_a_file_holds_nothing_is_raised_or_shown(content: bytes) -> None:
    read_end, write_end = os.pipe()
    saved = os.dup(2)
    os.dup2(write_end, 2)
    os.close(write_end)
    try:
        with tempfile.TemporaryDirectory() as name, TokenStore(name) as store:
            directory = Path(name)
            for path in (directory / "token", directory / "tokens" / "alice", directory / "roles.json"):
                write(path, content)
            found = store.all()
            assert store.by_nonce(make_nonce(os.urandom(32))) is None
            for ask in (store.ensure_own, store.roles):
                assert not SECRETS.search(refusal(ask))
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    said = os.read(read_end, 65536) if len(found) < 2 else b""
    os.close(read_end)
    assert not SECRETS.search(said.decode())
    assert len(said.splitlines()) == 2 - len(found)


def refusal(ask: Callable[[], object]) -> str:
    """Return what an error says, with that of its cause; nothing where there is none."""
    try:
        ask()
    except LevityError as error:
        return f"{error} {error.__cause__}"
    return ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_can_get_at_is_not_believed(
    store: TokenStore, directory: Path, capfd: pytest.CaptureFixture[str], mode: int
) -> None:
    write(directory / "token", TOKEN, mode)
    write(directory / "tokens" / "alice", record(), mode)
    write(directory / "roles.json", "{}", mode)
    assert store.all() == []
    said = lines(capfd)
    assert len(said) == 2
    assert all(f"{mode:04o}" in line for line in said)
    for ask in (store.ensure_own, store.roles):
        with pytest.raises(LevityError, match=f"{mode:04o}"):
            ask()


@needs_root
def test_a_file_of_another_user_is_not_believed(
    store: TokenStore, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.chown(write(directory / "token", TOKEN), 54321, 54321)
    os.chown(write(directory / "tokens" / "alice", record()), 54321, 54321)
    os.chown(write(directory / "roles.json", "{}"), 54321, 54321)
    assert store.all() == []
    assert all("54321" in line for line in lines(capfd))
    with pytest.raises(LevityError, match="54321"):
        store.roles()


def test_no_link_is_followed(store: TokenStore, directory: Path, tmp_path: Path) -> None:
    (directory / "token").symlink_to(write(tmp_path / "elsewhere" / "token", TOKEN))
    (directory / "roles.json").symlink_to(write(tmp_path / "elsewhere" / "roles", "{}"))
    write(tmp_path / "elsewhere" / "tokens" / "alice", record())
    (directory / "tokens").symlink_to(tmp_path / "elsewhere" / "tokens")
    assert store.all() == []
    for ask in (store.ensure_own, store.roles, lambda: store.add("bob", Role.USER)):
        with pytest.raises(LevityError):
            ask()
    assert os.listdir(tmp_path / "elsewhere" / "tokens") == ["alice"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_an_entry_that_is_no_file_is_passed_over(
    store: TokenStore, directory: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path, int], None]
) -> None:
    (directory / "tokens").mkdir(mode=0o700)
    for path in (directory / "token", directory / "tokens" / "alice", directory / "roles.json"):
        make(path, 0o600)
    assert store.all() == []
    assert [line.partition(": ")[2] for line in lines(capfd)] == [
        f"ignored {name}: it is no regular file" for name in ("token", "tokens/alice")
    ]
    with pytest.raises(LevityError):
        store.roles()


@pytest.mark.parametrize("wrong", ["mode", "link", "file"])
def test_a_directory_that_is_not_ones_own(tmp_path: Path, directory: Path, wrong: str) -> None:
    path = tmp_path / "other"
    if wrong == "link":
        path.symlink_to(directory)
    elif wrong == "file":
        path.write_text("")
    else:
        path.mkdir()
        path.chmod(0o750)
    with pytest.raises((NotPrivateError, OSError)):
        TokenStore(str(path))


# Roles


def test_roles(store: TokenStore, directory: Path) -> None:
    assert store.roles() == {}
    store.set_role("alice", Role.ADMIN)
    store.set_role("bob", Role.VIEWER)
    assert store.roles() == {"alice": Role.ADMIN, "bob": Role.VIEWER}
    assert json.loads((directory / "roles.json").read_text()) == {"alice": "admin", "bob": "viewer"}
    store.set_role("alice", None)
    store.set_role("carol", None)
    assert store.roles() == {"bob": Role.VIEWER}


@pytest.mark.parametrize("content", ["", "[]", '{"a":"root"}', '{"a":null}', '{"../a":"user"}', '{"a":"user"', "null"])
def test_damaged_roles_give_no_user_more_rights(store: TokenStore, directory: Path, content: str) -> None:
    write(directory / "roles.json", content)
    with pytest.raises(LevityError, match="json is damaged"):
        store.roles()
    with pytest.raises(LevityError, match="json is damaged"):
        store.set_role("alice", Role.USER)
    assert (directory / "roles.json").read_text() == content


def test_names_of_users() -> None:
    assert local_user("alice", 1) == "alice"
    assert local_user("", 54321) == local_user("a b", 54321) == "uid:54321"


def test_a_token_does_not_show_its_key(store: TokenStore) -> None:
    token = store.add("alice", Role.USER)
    for text in (repr(token), str(token), repr(store), repr(store.all())):
        assert token.key.hex() not in text
        assert repr(token.key) not in text
