"""The help pages, and `levity help`. Runs in: client. Owns: nothing."""

from levity.cli.options import UsageError
from levity.cli.output import write_text

__all__ = ["PAGES", "run"]

_OVERVIEW = """\
Usage: levity [-a ADDRESS] [-t SECONDS] COMMAND ...

Run commands on a host where levityd is, and look after them from here.

Commands:
  start COMMAND [ARG]...   run a command on the host; prints the id of its task
  query ID                 print a task's state and, when Finished, its exit code
  signal ID                end a task: SIGTERM, 5 seconds of grace, SIGKILL
  logs ID                  print what a task wrote
  list                     print a line for each live task
  info                     print which levityd answers
  help [COMMAND]           print this page, or a command's

Options:
  -a, --address ADDRESS    where levityd is: HOST:PORT, [IPV6]:PORT or unix:/path
                           (otherwise $LEVITY_ADDR, else the default unix socket)
  -t, --timeout SECONDS    how long a request may take, 30 by default;
                           for logs, how long nothing may come
  -h, --help               print this page (after a command: that command's)
      --version            print the version

An ID may be shortened to any beginning that only one task has.

Exit codes:
  0          done
  1          failed: no such task, an ID of several tasks, no space on the host, ...
  2          the command line was wrong
  126, 127   start: the command cannot be executed; there is no such command
  130        ended by Ctrl-C
  141        whoever read the output went away
  255        no answer from levityd: nobody there, timed out, or not levityd
With any but 0 and 141 one line on standard error says what happened (none after Ctrl-C).

Examples:
  levity start sleep 60
  levity -a 127.0.0.1:4321 start -- ls -la /tmp
  levity logs 3f2a | less
"""

_START = """\
Usage: levity start [OPTION]... [--] COMMAND [ARG]...

Run a command on levityd's host. Prints the id of its task as soon as it runs, and nothing else, on standard output.
The task goes on whatever becomes of this client, of the connection or of levityd. Its standard input is empty.

Options end at the first word of the command, or at `--`.

  -d, --directory DIR       the directory on the host to run it in
  -D, --define NAME=VALUE   set an environment variable (repeatable); it has levityd's own besides
      --grace SECONDS       time between SIGTERM and SIGKILL when it is signalled; 5 by default
      --json                print the task's record instead of its id: one JSON object on one line
  -h, --help                print this page

No shell reads the command: for pipes and globs start one, as below.
A command that cannot be executed starts nothing: exit code 127 if there is none of that name, else 126.

Examples:
  levity start make -j4
  levity start -d /srv/app -D PORT=8080 -D MODE=test -- ./serve --verbose
  levity start sh -c 'ls *.log | wc -l'
  id=$(levity start sleep 60) && levity query "$id"
"""

_QUERY = """\
Usage: levity query [--json] ID

Print a task's state and, when it is Finished, its exit code on a second line.

      --json   print everything known of it: one JSON object on one line.
               A byte that is not UTF-8 is an escape from \\udc80 to \\udcff in it.
  -h, --help   print this page

States:
  NotStarted            accepted, not running yet
  Running               running, or its output is still being finished
  Signalled             asked to end, not gone yet
  Finished              over, by itself or after being signalled; its log is complete
  BrutallyKilled        over: it outlived the grace period and was killed
  InternalServerError   over: levity failed it or the machine went down; its exit code is not known

The exit code is the command's own; 128+N when signal N ended it.
`levity query` itself exits with 0 when it could answer, whatever became of the task.

Examples:
  levity query 3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42
  levity query --json 3f2a
"""

_SIGNAL = """\
Usage: levity signal [--grace SECONDS] ID

Ask a task to end: SIGTERM to its process group, a grace period, then SIGKILL to every process it started.
Returns at once; `levity query` tells when it is over. A task that is over already is left as it is.

      --grace SECONDS   the grace period; by default the one it was started with, 5 if none
  -h, --help            print this page

Examples:
  levity signal 3f2a
  levity signal --grace 60 3f2a
"""

_LOGS = """\
Usage: levity logs ID

Print what a task has written so far, unchanged: its standard output to standard output, its standard error to
standard error. When it is over, that is all it ever wrote.

  -h, --help   print this page

If the connection breaks it is made again and goes on at the same byte. If anything is missing at the end, the exit code
is 255.

Examples:
  levity logs 3f2a
  levity logs 3f2a >out 2>err
  levity logs 3f2a | grep -c warning
"""

_LIST = """\
Usage: levity list [--all] [--json]

Print a line for each live task: id, state, exit code, start time (UTC) and command as a shell would read it.

      --all    tasks that are over too
      --json   print each task's record instead: one JSON object a line
  -h, --help   print this page

Examples:
  levity list
  levity list --all --json | jq -r 'select(.exit_code != 0) | .id'
"""

_INFO = """\
Usage: levity info [--json]

Print which levityd answers: its address, version, process id, state directory and number of live tasks.

      --json   print one JSON object on one line
  -h, --help   print this page

Examples:
  levity -a 127.0.0.1:4321 info
"""

_HELP = """\
Usage: levity help [COMMAND]

Print the overview, or the page of a command.

Examples:
  levity help start
"""

PAGES = {
    "": _OVERVIEW,
    "start": _START,
    "query": _QUERY,
    "signal": _SIGNAL,
    "logs": _LOGS,
    "list": _LIST,
    "info": _INFO,
    "help": _HELP,
}


def run(words: list[str]) -> int:
    """Print the page of the command that `words` names, or the overview."""
    command = words[0] if words and words[0] not in ("-h", "--help") else ""
    if command not in PAGES or len(words) > 1:
        raise UsageError(
            "levity", f"there is no help on {' '.join(words)!r}; there is on {', '.join(filter(None, PAGES))}"
        )
    write_text(PAGES[command])
    return 0
