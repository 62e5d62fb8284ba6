"""What every test has at hand; see tests/support. Runs in: pytest."""

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
