"""`levity help`: the help pages. Runs in: client. Owns: nothing."""

from levity.cli.options import UsageError
from levity.cli.output import write_text

__all__ = ["PAGES", "run"]

_OVERVIEW = """\
Usage: levity [-a ADDRESS] [OPTION]... COMMAND ...

Run commands on a host where levityd is, and look after them from here.

Commands:
  start COMMAND [ARG]...   run a command on the host; prints the id of its task
  run COMMAND [ARG]...     the same, but follow it to its end and exit with its code
  query ID                 print a task's state and, when Finished, its exit code
  wait ID...               wait until tasks are over and exit with the last one's code
  signal ID                end a task: SIGTERM, 5 seconds of grace, SIGKILL
  logs ID...               print the output of tasks, with -f until they are over
  list                     print a line for each live task
  info                     print which levityd answers, and who it takes you for
  login                    store the token for an address
  logout                   forget that token
  help [COMMAND]           print this page, or a command's

Options:
  -a, --address ADDRESS    where levityd is: HOST:PORT, [IPV6]:PORT or unix:/path
                           (otherwise $LEVITY_ADDR, else the default unix socket)
  -t, --timeout SECONDS    how long a request may take, 30 by default; for logs, wait
                           and run how long levityd may give no sign of life
      --tls                speak TLS to a loopback address, too (to others it is always spoken)
      --ca FILE            the server's certificate must be one of this CA
  -c, --cert FILE          your certificate, in place of a token; needs --ca
  -k, --key FILE           its private key, if that is not in the same file
  -h, --help               print this page (after a command: that command's)
      --version            print the version

An ID may be shortened to any beginning that only one task has.

Who you are: at a unix socket the kernel tells it. At a loopback address levity finds your own levityd's token in its
state directory. For any other levityd over TCP `levity -a ADDRESS login` stores a token once. levity sends nothing to a
server that has not proved that it has the token, or a certificate of --ca.

Environment:
  LEVITY_ADDR              the address, as -a
  LEVITY_STATE_DIR         levityd's state directory, where its socket and its token are
  LEVITY_TOKEN_FILE        a file with the token, used before the stored one
  LEVITY_CACERT, LEVITY_CLIENT_CERT, LEVITY_CLIENT_KEY
                           as --ca, --cert and --key; not used at a unix socket

Exit codes:
  0          done
  1          failed: no such task, an ID of several tasks, no space on the host,
             logs: the log is not whole, ...
  2          the command line was wrong
  124        wait: the tasks are not over within --timeout
  125        run, wait: levity failed (1 elsewhere), or a task is InternalServerError
  126, 127   start, run: the command cannot be executed; there is no such command
  130        ended by Ctrl-C
  143, 129   run: ended by SIGTERM, SIGHUP; its task goes on
  141        the reader of the output went away
  255        no answer from levityd: nobody there, timed out, not levityd, or one side is not who it should be
`run` and `wait` exit with the task's own code, which is 128+N when signal N ended it.
With a code of levity's own one line on standard error says what happened (none with 0 and 141, and after Ctrl-C).

Examples:
  levity start sleep 60
  levity -a 127.0.0.1:4321 run -- ls -la /tmp
  levity logs -f -n 100 3f2a
  levity -a host.example:4321 login
  levity --ca ca.pem -c alice.pem -k alice.key -a host.example:4321 list
"""

_START = """\
Usage: levity start [OPTION]... [--] COMMAND [ARG]...

Run a command on levityd's host. Prints the id of its task as soon as it runs, and nothing else, on standard output.
The task goes on whatever becomes of this client, of the connection or of levityd.

Options end at the first word of the command, or at `--`.

  -d, --directory DIR       the directory on the host to run it in
  -D, --define NAME=VALUE   set an environment variable (repeatable), besides what levityd gives it
      --grace SECONDS       time between SIGTERM and SIGKILL when it is signalled; 5 by default
      --merged              one pipe for both its streams: their order is exact, and all of it is standard output
      --log-cap SIZE        keep so much of its output, its beginning and its end: 1M (the least), 2G, ...;
                            `none` for all of it
      --stdin FILE          its standard input, a file from here; `-` is levity's own. Otherwise it is empty.
                            The id is printed when all of it is stored on the host
      --user NAME           run it as this account of the host, if root's levityd lets you; else it runs as you,
                            or as levityd's own user
      --json                print the task's record instead of its id: one JSON object on one line
  -h, --help                print this page

No shell reads the command: for pipes and globs start one, as below.
A command that cannot be executed starts nothing.

Exit codes: 0 started; 127 there is no such command; 126 it cannot be executed; else as in `levity --help`.

Examples:
  levity start make -j4
  levity start -d /srv/app -D PORT=8080 -D MODE=test -- ./serve --verbose
  levity start sh -c 'ls *.log | wc -l'
  id=$(levity start sleep 60) && levity query "$id"
"""

_RUN = """\
Usage: levity run [OPTION]... [--] COMMAND [ARG]...

Run a command on levityd's host, print what it writes as it comes, and exit with its code. Its standard output goes to
standard output, its standard error to standard error, unchanged. It is a task as any other: it goes on whatever
becomes of this client, and after a break of the connection it is followed further as soon as levityd is back.

Options end at the first word of the command, or at `--`.

  -d, --directory DIR       the directory on the host to run it in
  -D, --define NAME=VALUE   set an environment variable (repeatable), besides what levityd gives it
      --grace SECONDS       time between SIGTERM and SIGKILL when it is signalled; 5 by default
      --merged              one pipe for both its streams: their order is exact, and all of it is standard output
      --log-cap SIZE        keep so much of its output, its beginning and its end: 1M (the least), 2G, ...;
                            `none` for all of it
      --stdin FILE          its standard input, a file from here; `-` is levity's own. Otherwise it is empty
  -i, --interactive         its standard input is levity's own as it comes, to its end; not with --stdin
      --user NAME           run it as this account of the host, if root's levityd lets you; else it runs as you,
                            or as levityd's own user
  -h, --help                print this page

Ctrl-C asks the task to end, as `levity signal` does. A second one leaves it alone: its id is printed, and it goes on;
so do SIGTERM and SIGHUP to levity itself. A task that is left alone in the middle of its input waits for the rest.

Exit codes:
  N          the task's own; 128+N when signal N ended it
  2          the command line was wrong
  125        levity failed: nothing was started, or the end or the log of the task is not known
  126, 127   the command cannot be executed; there is no such command
  130        left alone by Ctrl-C; the task goes on (143, 129: by SIGTERM, SIGHUP)
  141        the reader of the output went away; the task goes on
  255        no answer from levityd any more; the task, if it was started, goes on
Where a task goes on, a line on standard error has its id.

Examples:
  levity run make -j4
  levity run -d /srv/app -- ./backup --all >backup.log
  levity run --stdin dump.sql -- psql shop
  tar c src | levity run -i -- tar x -C /srv/copy
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

_WAIT = """\
Usage: levity wait [--any] [--timeout SECONDS] ID...

Wait until all these tasks are over, and exit with the code of the last one. levityd answers at that moment; nothing is
polled. With several IDs a line for each is printed at the end: ID STATE CODE (`-` if there is no code).

      --any               until one of them is over; exit with its code (the first such in the list)
      --timeout SECONDS   give up after so long; 0 only looks
  -h, --help              print this page

Exit codes:
  N     the task's own; 128+N when signal N ended it
  2     the command line was wrong
  124   not over in time
  125   levity failed: no such task, an ID of several tasks, or InternalServerError; `levity query --json` says why
  130   ended by Ctrl-C
  255   no answer from levityd any more

Examples:
  levity wait 3f2a && echo it went well
  levity wait --timeout 60 3f2a 9c1e
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
Usage: levity logs [OPTION]... ID...

Print what a task has written so far, unchanged: its standard output to standard output, its standard error to
standard error. When it is over, that is all it ever wrote. Several tasks come one after the other, with -f all at once
by whole lines.

  -f, --follow       go on until the task is over and all of it was printed, or the time of --until is over.
                     Ctrl-C ends this, not the task
  -n, --tail N       only the last N lines; `all` for all of it
      --since T      only what came at T or later
      --until T      only what came at T or before
  -t, --timestamps   before each line the time at which it began to come: 2026-11-24T09:41:02.123456789Z
      --stdout       only its standard output
      --stderr       only its standard error
      --prefix       before each line the beginning of the id, and `out` or `err`
      --json         print a JSON object for each piece, all to standard output: {"task", "stream", "time", "text"};
                     "base64" instead of "text" where it is no UTF-8. "dropped" instead, a number of bytes, where they
                     were removed to keep within limits; "lost" where no reason is known; "unordered":
                     the order and times (null) of the next so many are not known
  -h, --help         print this page

T is a time like 2026-11-24T09:41:02Z (without `Z` or an offset: local time of this machine), seconds since the epoch,
or so long ago by the host's clock: 90s, 10m, 2h, 3d.

After a break of the connection the log goes on at the same byte. Where bytes were removed to keep within limits
(--log-cap, or levityd's --log-quota and --min-free) a line on standard error says how many.

Exit codes: 0 all that is kept came; 1 no such task, or the log is damaged or did not come whole; 2, 130, 141 and 255
as in `levity --help`.

Examples:
  levity logs 3f2a >out 2>err
  levity logs 3f2a 2>&1 | grep -i error
  levity logs -f -n 20 3f2a
  levity logs -t --since 10m --stderr 3f2a
  levity logs -f --prefix 3f2a 9c1e
  levity -t 5 logs 3f2a | grep -c warning
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

Print which levityd answers: its address, version, process id, state directory and number of live tasks; and who it
takes you for: user and role (viewer, user or admin).

      --json   print one JSON object on one line
  -h, --help   print this page

Examples:
  levity -a 127.0.0.1:4321 info
"""

_LOGIN = """\
Usage: levity login

Store the token for an address (-a), where later commands find it. It is asked for without echo, or read as one line
from standard input. It is stored only after levityd has proved that it has the same token: in a file for you
only, $XDG_CONFIG_HOME/levity/tokens/ADDRESS (~/.config if that is not set; an IPv6 address with its brackets). Later
commands must write the address in the same way.

On levityd's host `levityd token show` prints its own token; `levityd token add NAME` makes one for somebody else.

  -h, --help   print this page

Examples:
  levity -a host.example:4321 login
  ssh host.example levityd token show | levity -a host.example:4321 login
"""

_LOGOUT = """\
Usage: levity logout

Forget the token that `levity login` stored for an address (-a). The token itself stays valid: on the host
`levityd token revoke NAME` ends that.

  -h, --help   print this page

Examples:
  levity -a host.example:4321 logout
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
    "run": _RUN,
    "query": _QUERY,
    "wait": _WAIT,
    "signal": _SIGNAL,
    "logs": _LOGS,
    "list": _LIST,
    "info": _INFO,
    "login": _LOGIN,
    "logout": _LOGOUT,
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
