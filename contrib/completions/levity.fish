# fish completion for levity. Copy it to ~/.config/fish/completions/levity.fish.

set -l commands start run query wait signal logs list info login logout help

# Ids of tasks with their state and command; none when levityd does not answer within a second.
function __levity_ids
    set -l words (commandline -opc)
    set -l place
    for i in (seq 2 (count $words))
        if contains -- $words[$i] -a --address --ca -c --cert -k --key
            set -a place $words[$i] $words[(math $i + 1)]
        else if test $words[$i] = --tls
            set -a place --tls
        else if contains -- $words[$i] query wait signal logs
            break
        end
    end
    command levity $place -t 1 list $argv 2>/dev/null | head -n 500 | string replace -rf '^([0-9a-f-]{36}) +(.*)' '$1\t$2'
end

# Whether the task's own command line has begun: what follows is not levity's.
function __levity_in_task
    __fish_seen_subcommand_from start run; or return 1
    set -l words (commandline -opc)
    set -l after (contains -i -- start $words; or contains -i -- run $words)
    set -l is_value no
    for word in $words[(math $after + 1)..-1]
        if test $is_value = yes
            set is_value no
        else if contains -- $word -d --directory -D --define --grace --log-cap --stdin --user
            set is_value yes
        else if test "$word" = --; or not string match -q -- '-*' $word
            return 0
        end
    end
    return 1
end

complete -c levity -f
complete -c levity -n "not __fish_seen_subcommand_from $commands" -s a -l address -x -d 'where levityd is'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -s t -l timeout -x -d 'how long a request may take'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -l tls -d 'speak TLS to a loopback address, too'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -l ca -r -F -d 'the CA of the server'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -s c -l cert -r -F -d 'your certificate'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -s k -l key -r -F -d 'its private key'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -l version -d 'print the version'
complete -c levity -n 'not __levity_in_task' -s h -l help -d 'print how to use it'

complete -c levity -n "not __fish_seen_subcommand_from $commands" -a start -d 'run a command on the host'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a run -d 'run a command on the host and follow it to its end'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a query -d 'print the state of a task'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a wait -d 'wait until tasks are over'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a signal -d 'ask a task to end'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a logs -d 'print the output of tasks'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a list -d 'print a line for each task'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a info -d 'print what levityd says of itself'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a login -d 'store the token for an address'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a logout -d 'forget the token for an address'
complete -c levity -n "not __fish_seen_subcommand_from $commands" -a help -d 'print how to use a command'

set -l in_start '__fish_seen_subcommand_from start run; and not __levity_in_task'
complete -c levity -n "$in_start" -s d -l directory -x -a '(__fish_complete_directories)' -d 'the directory on the host'
complete -c levity -n "$in_start" -s D -l define -x -d 'set an environment variable: NAME=VALUE'
complete -c levity -n "$in_start" -l grace -x -d 'seconds between SIGTERM and SIGKILL'
complete -c levity -n "$in_start" -l merged -d 'one pipe for both streams'
complete -c levity -n "$in_start" -l log-cap -x -d 'how much of the output to keep'
complete -c levity -n "$in_start" -l stdin -r -F -d 'its standard input, - for our own'
complete -c levity -n "$in_start" -l user -x -a '(__fish_complete_users)' -d 'the account it runs as'
complete -c levity -n "$in_start; and __fish_seen_subcommand_from run" -s i -l interactive -d 'pass standard input on'
complete -c levity -n "$in_start; and __fish_seen_subcommand_from start" -l json -d 'print the record'
complete -c levity -n "$in_start" -a '(__fish_complete_command)'
complete -c levity -n __levity_in_task -F

complete -c levity -n '__fish_seen_subcommand_from query logs wait' -a '(__levity_ids --all)'
complete -c levity -n '__fish_seen_subcommand_from signal' -a '(__levity_ids)'
complete -c levity -n '__fish_seen_subcommand_from signal' -l grace -x -d 'seconds between SIGTERM and SIGKILL'
complete -c levity -n '__fish_seen_subcommand_from query logs list info' -l json -d 'print it for programs'
complete -c levity -n '__fish_seen_subcommand_from wait' -l any -d 'until one is over'
complete -c levity -n '__fish_seen_subcommand_from wait' -l timeout -x -d 'give up after so long'
complete -c levity -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'go on until the task is over'
complete -c levity -n '__fish_seen_subcommand_from logs' -s n -l tail -x -d 'only the last lines'
complete -c levity -n '__fish_seen_subcommand_from logs' -l since -x -d 'only what came since then: a time, 10m'
complete -c levity -n '__fish_seen_subcommand_from logs' -l until -x -d 'only what came before then: a time, 10m'
complete -c levity -n '__fish_seen_subcommand_from logs' -s t -l timestamps -d 'a time before each line'
complete -c levity -n '__fish_seen_subcommand_from logs' -l stdout -d 'only standard output'
complete -c levity -n '__fish_seen_subcommand_from logs' -l stderr -d 'only standard error'
complete -c levity -n '__fish_seen_subcommand_from logs' -l prefix -d 'where it is from before each line'
complete -c levity -n '__fish_seen_subcommand_from list' -l all -d 'also what is over'
complete -c levity -n '__fish_seen_subcommand_from help' -a "$commands"
