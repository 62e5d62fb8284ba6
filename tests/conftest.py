"""What every test has at hand; see tests/support. Runs in: pytest."""

pytest_plugins = ["tests.support.daemon", "tests.support.leaks", "tests.support.race"]
