"""What every test has at hand; see tests/support. Runs in: pytest."""

import signal

from hypothesis import settings

pytest_plugins = [
    "tests.support.audit",
    "tests.support.daemon",
    "tests.support.guarded",
    "tests.support.leaks",
    "tests.support.race",
    "tests.support.registry",
]

# How long an example takes says more of the machine than of the code.
settings.register_profile("levity", deadline=None)
settings.load_profile("levity")

# A job in the background has SIGINT ignored, one under nohup SIGHUP. Here that may be; but execve(2) passes it on, too,
# unless a handler, even one that does nothing, stands in its place.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
