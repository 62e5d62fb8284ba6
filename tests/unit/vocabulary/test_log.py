"""What levityd says to the operator: a flood is a line."""

from supervisor.log import SparseLog


def test_at_most_a_line_a_minute_and_none_is_forgotten() -> None:
    said: list[str] = []
    now = [0.0]
    log = SparseLog(lambda: now[0], said.append)
    log.log("one")
    for _ in range(3):
        log.log("more")
    now[0] = 59.9
    log.log("more")
    assert said == ["one"]
    now[0] = 60.0
    log.log("later")
    log.log("more")
    assert said == ["one", "later (4 more since the last such line)"]
    now[0] = 500.0
    log.log("last")
    assert said[2:] == ["last (1 more since the last such line)"]
    now[0] = 1000.0
    log.log("one")
    assert said[3:] == ["one"]
