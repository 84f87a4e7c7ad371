# Runs shell text of the user's, and sets `why` when it fails. It runs in HOME and in a session of its own, so that
# all of it can be ended at its deadline, and without the lock: a service that it starts would hold it for ever.
in_time() {  # in_time NAME SECONDS TEXT
    code=.activation/$1.code out=.activation/$1.log status=
    clear_away "$code"
    here=$PWD
    $own_session sh -c 'cd "${HOME:-/}" && (eval "set --; $1") >"$2" 2>&1; printf "%s\n" "$?" >"$3"' \
        sh "$3" "$here/$out" "$here/$code" 9>&- </dev/null >/dev/null 2>&1 &
    child=$!
    ticks
    until_then=$((tick + $2)) dozes=0
    until [ -s "$code" ]; do
        ticks
        if [ "$tick" -ge "$until_then" ]; then
            kill -9 "-$child" 2>/dev/null || kill -9 "$child"
            why="the $1 command did not end within $2 s"
            return 1
        fi
        doze
    done
    read -r status <"$code"
    [ "$status" = 0 ] && return
    why="the $1 command ended with exit code $status: $(brief <"$out")"
    return 1
}
own_session=
! command -v setsid >/dev/null 2>&1 || own_session=setsid

reload() { [ -z "$reload" ] || in_time reload "$deadline" "$reload"; }
