# bash completion for levity. Copy it to /usr/share/bash-completion/completions/levity, or source it from ~/.bashrc.

# Ids of tasks, from the levityd that the command line so far means; none when it does not answer within a second.
_levity_ids() {
    local -a place=()
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -a | --address)
                # readline splits HOST:PORT at the colon.
                local address=""
                while ((++i < COMP_CWORD)); do
                    case ${COMP_WORDS[i]} in
                        query | signal | logs | wait | -*) break ;;
                        *) address+=${COMP_WORDS[i]} ;;
                    esac
                done
                place+=(-a "$address")
                i=$((i - 1))
                ;;
            --tls) place+=(--tls) ;;
            --ca | -c | --cert | -k | --key)
                place+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}")
                i=$((i + 1))
                ;;
            query | signal | logs | wait) break ;;
        esac
    done
    command levity "${place[@]}" -t 1 list "$@" 2>/dev/null | while read -r id _; do
        [[ $id == ID ]] || printf '%s\n' "$id"
    done | head -n 500
}

_levity() {
    local commands="start run query wait signal logs list info login logout help"
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command="" at=0 i skip=0
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            start | run | query | wait | signal | logs | list | info | login | logout | help)
                command=${COMP_WORDS[i]} at=$i
                break
                ;;
        esac
    done
    if [[ -z $command ]]; then
        case $previous in
            -a | --address | -t | --timeout) return ;;
            --ca | -c | --cert | -k | --key)
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
                return
                ;;
        esac
        local options="-a --address -t --timeout --tls --ca -c --cert -k --key -h --help --version"
        mapfile -t COMPREPLY < <(compgen -W "$commands $options" -- "$current")
        return
    fi
    case $command in
        start | run)
            local options="-d --directory -D --define --grace --merged --log-cap --stdin --user -h --help"
            if [[ $command == start ]]; then options+=" --json"; else options+=" -i --interactive"; fi
            # The first word that is no option begins the task's command: that is completed as usual from there on.
            for ((i = at + 1; i < COMP_CWORD; i++)); do
                case ${COMP_WORDS[i]} in
                    --) i=$((i + 1)) && break ;;
                    -d | --directory | -D | --define | --grace | --log-cap | --stdin | --user) skip=1 && i=$((i + 1)) ;;
                    =) i=$((i + 1)) ;; # readline splits NAME=VALUE
                    -*) ;;
                    *) break ;;
                esac
            done
            if ((i < COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            elif ((skip)) && [[ $previous == -d || $previous == --directory ]]; then
                mapfile -t COMPREPLY < <(compgen -d -- "$current")
            elif ((skip)) && [[ $previous == --stdin ]]; then
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            elif ((skip)) && [[ $previous == --user ]]; then
                mapfile -t COMPREPLY < <(compgen -u -- "$current")
            elif ((skip)) && [[ $previous == -D || $previous == --define || $previous == --grace || $previous == --log-cap ]]; then
                return
            elif [[ $current == -* && $previous != -- ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$options --" -- "$current")
            else
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
            fi
            ;;
        query | wait | logs)
            local options
            case $command in
                query) options="--json -h --help" ;;
                wait) options="--any --timeout -h --help" ;;
                logs)
                    options="-f --follow -n --tail --since --until -t --timestamps --stdout --stderr --prefix --json"
                    options+=" -h --help"
                    ;;
            esac
            case $previous in
                -n | --tail | --since | --until | --timeout) return ;;
            esac
            if [[ $current == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
            else
                mapfile -t COMPREPLY < <(compgen -W "$(_levity_ids --all)" -- "$current")
            fi
            ;;
        signal)
            if [[ $current == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "--grace -h --help" -- "$current")
            elif [[ $previous != --grace ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$(_levity_ids)" -- "$current")
            fi
            ;;
        list) mapfile -t COMPREPLY < <(compgen -W "--all --json -h --help" -- "$current") ;;
        info) mapfile -t COMPREPLY < <(compgen -W "--json -h --help" -- "$current") ;;
        login | logout) mapfile -t COMPREPLY < <(compgen -W "-h --help" -- "$current") ;;
        help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
    esac
}

complete -o filenames -F _levity levity
