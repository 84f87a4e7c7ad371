# Sets `why` when it fails. The command runs in its own session, so that all of it can be ended at its deadline, and
# without the lock: a service that it starts would hold it for ever.
reload() {
    [ -n "$reload" ] || return 0
    code=.activation/code out=.activation/reload.log
    rm -f "$code"
    here=$PWD
    setsid sh -c 'cd "${HOME:-/}" && sh -c "$1" >"$2" 2>&1; printf "%s\n" "$?" >"$3"' \
        sh "$reload" "$here/$out" "$here/$code" 9>&- </dev/null >/dev/null 2>&1 &
    child=$!
    end=$(($(ticks) + deadline))
    until [ -s "$code" ]; do
        if [ "$(ticks)" -ge "$end" ]; then
            kill -9 "-$child" 2>/dev/null
            why="the reload command did not end within $deadline s"
            return 1
        fi
        nap
    done
    read -r status <"$code"
    [ "$status" = 0 ] && return
    why="the reload command ended with exit code $status: $(tail -n 3 "$out" | tr '\n' ' ')"
    return 1
}
