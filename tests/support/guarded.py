"""Daemons over TCP in each of the ways of knowing clients, for attacks on them. Owns: the daemons, and their files."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest

from levity import Client
from levity.channel_binding import endpoint_binding
from levity.protocol.token_proof import parse_token
from levity.tls import certificate_binding
from supervisor.security.roles import Role
from supervisor.security.tokens import TokenStore, own_name
from tests.support.attack import Watch
from tests.support.certificates import Authority, Certificate, make_ca
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import levityd_command
from tests.support.tasks import sh

__all__ = ["Guarded", "Guards", "guarded", "guards"]


class Guarded:
    """A levityd, `task_id` of its own user's, and `client()`: a client that may do everything."""

    def __init__(self, daemon: Daemon, make_client: Callable[[str], Client], certificate: Certificate | None) -> None:
        self.daemon = daemon
        self.make_client = make_client
        self.certificate = certificate
        self.marker = daemon.state_dir.parent / "marker"
        with self.client() as client:
            self.task_id = sh(client, "echo secret; exec sleep 600", user="root" if os.geteuid() == 0 else None)
            # Bytes without a time are not in the index yet, whose file changes once more then.
            eventually(lambda: [bool(time) for _, time, _ in client.logs(self.task_id)] == [True], "its output's time")

    def client(self) -> Client:
        return self.make_client(self.address)

    @property
    def address(self) -> str:
        assert self.daemon.address is not None
        return self.daemon.address

    @property
    def key(self) -> bytes:
        """The key of its own token."""
        return parse_token(self.daemon.token_file.read_text())

    @property
    def binding(self) -> bytes:
        if self.certificate is not None:
            return certificate_binding(self.certificate.der)
        host, _colon, port = self.address.rpartition(":")
        return endpoint_binding(host, int(port))

    @property
    def daemon_user(self) -> str:
        """The user that it is itself."""
        return own_name()

    def add_token(self, name: str, role: Role = Role.USER) -> bytes:
        """Make a token and return its key."""
        with TokenStore(str(self.daemon.state_dir)) as store:
            return store.add(name, role).key

    def revoke_token(self, name: str) -> None:
        with TokenStore(str(self.daemon.state_dir)) as store:
            store.revoke(name)

    def set_role(self, name: str, role: Role | None) -> None:
        with TokenStore(str(self.daemon.state_dir)) as store:
            store.set_role(name, role)

    def poke(self) -> None:
        """Connect as who may, which the audit notes."""
        with self.client() as client:
            client.info()

    def watch(self) -> Watch:
        """Look how all is, once tasks of earlier tests are gone, and what was refused before is in the audit."""
        self.poke()
        eventually(lambda: self._shims() == [f"shim {self.task_id}"], "an end of all other tasks")
        return Watch(self.daemon, self.marker)

    def _shims(self) -> list[str]:
        return [role for role in self.daemon.pids() if role.startswith("shim ")]


class Guards:
    """Such daemons, each started when first asked for. All on loopback: what is special elsewhere is tested there.

    `plain`: tokens; `inside_tls`: tokens in TLS; `mutual`: certificates of `ca`, less those in the list at `crl`.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="levity-guards-"))
        self._daemons: list[Daemon] = []

    def end(self) -> None:
        for one in self._daemons:
            one.end()
        shutil.rmtree(self.directory)

    def _start(self, *options: object, **others: object) -> Daemon:
        daemon = Daemon("127.0.0.1:0", command=[*levityd_command(), *map(str, options)], **others)  # type: ignore[arg-type]
        self._daemons.append(daemon)
        return daemon

    @cached_property
    def ca(self) -> Authority:
        return make_ca(self.directory)

    @cached_property
    def server(self) -> Certificate:
        return self.ca.server()

    @cached_property
    def root(self) -> Certificate:
        """The certificate of who may do everything at `mutual`."""
        return self.ca.client("root")

    @cached_property
    def crl(self) -> Path:
        return shutil.copyfile(self.ca.crl(), self.directory / "list")

    def revoke(self, *certificates: Certificate) -> None:
        """Put exactly these into the list."""
        self.ca.crl(certificates).rename(self.crl)

    @cached_property
    def plain(self) -> Guarded:
        daemon = self._start().start()
        return Guarded(daemon, lambda at: Client(at, token_file=daemon.token_file), None)

    @cached_property
    def inside_tls(self) -> Guarded:
        daemon = self._start("--certificate", self.server.path, "--key", self.server.key_path).start()
        return Guarded(daemon, lambda at: Client(at, tls=True, token_file=daemon.token_file), self.server)

    @cached_property
    def mutual(self) -> Guarded:
        files = ("--certificate", self.server.path, "--key", self.server.key_path)
        daemon = self._start(*files, "--client-ca", self.ca.path, "--crl", self.crl)
        daemon.start()
        with TokenStore(str(daemon.state_dir)) as store:
            store.set_role("root", Role.ADMIN)
        mine = self.root
        return Guarded(daemon, lambda at: Client(at, ca=self.ca.path, cert=mine.path, key=mine.key_path), self.server)


@pytest.fixture(scope="module")
def guards() -> Iterator[Guards]:
    """Daemons for the tests of a module that do them no harm."""
    made = Guards()
    yield made
    made.end()


@pytest.fixture(scope="module")
def guarded(guards: Guards, request: pytest.FixtureRequest) -> Guarded:
    """One of them: the test is parametrized (indirect) with its name."""
    found = getattr(guards, request.param)
    assert isinstance(found, Guarded)
    return found
