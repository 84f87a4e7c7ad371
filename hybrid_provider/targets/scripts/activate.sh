# The activation itself. It goes back by itself, unless the worker commits within `deadline` seconds, or the host's own
# probe finds the release well after that; so whatever becomes of the worker, the host ends on one proven release. It
# is started in the model's folder, under its lock. Also takes `token`, `reload`, `drain`, `patience` and `probe`.
# Caught and not ignored: what the reload command starts would inherit the ignoring.
trap : HUP PIPE
# The last whole line says where it is.
phase() { say "$*" >>".activation/phase-$token"; }

# The one commit point: what state.json names is proven. previous: the last other one that was. sum: of present().
record() {
    state
    now=$(date -u '+%Y-%m-%dT%H:%M:%SZ %s')
    [ "$proven" = "$release" ] || before=$proven
    say "{
  \"model\": \"$model\",
  \"release_id\": \"$release\",
  \"digest\": \"${sum%% *}\",
  \"previous\": \"$before\",
  \"rollout\": \"$rollout\",
  \"epoch\": $epoch,
  \"since\": \"${now% *}\",
  \"since_epoch\": ${now#* }
}" >state.json.new && flush && mv -f state.json.new state.json
}

undo() {
    reason=$1
    phase "reverting $reason"
    if ! { flip "$from" && flush; }; then
        phase "stuck $reason; and the link could not be set back"
        exit 1
    fi
    if [ -n "$from" ] && ! reload; then
        phase "stuck $reason; the old release is linked again, but $why"
        exit 1
    fi
    rm -f .activation/pending
    phase "reverted $reason"
    exit 0
}

refuse() {
    [ -z "$drain" ] || undo "$*"
    rm -f .activation/pending
    phase "refused $*"
    exit 1
}

# Until the worker asks for something, which is then in `asked`, or has been silent for too long.
asked_within() {
    ticks
    end=$((tick + $1)) dozes=0
    while :; do
        for asked in revert $2; do
            [ ! -s ".activation/$asked-$token" ] || return 0
        done
        asked=nothing
        ticks
        [ "$tick" -lt "$end" ] || return 0
        doze
    done
}

from=$(live)
printf '%s %s\n' "$token" "$from" >.activation/pending && flush || refuse "cannot write in $PWD"
if [ -n "$drain" ]; then
    phase draining
    # Past its time it is ended, and the switch comes: what still works then was given its chance.
    in_time drain "$patience" "$drain" || [ -z "$status" ] || undo "$why"
    phase drained
    asked_within "$deadline" go
    case $asked in
        revert) undo "the worker asked for it" ;;
        nothing) undo "nobody switched it within $deadline s after it was drained" ;;
    esac
    read -r release digest <".activation/go-$token"
fi
present || refuse "release $release is not here, whole; it was changed or pruned"
changed=$(proved_release "$release")
[ "$changed" = proven ] || refuse "release $release was changed since it was staged: $(say "$changed" | sed -n 1,3p)"
pin=$(pinned)
[ -z "$pin" ] || [ "$pin" = "$release" ] || refuse "it is pinned to release $pin"
phase activating
# Whether a loss of power finds the old link or the new one: what is pending is undone. The commit flushes both.
flip "$release" || undo "the link could not be set"
reload || undo "$why"
phase active
asked_within "$deadline" commit
case $asked in
    revert) undo "the worker asked for it" ;;
    nothing)
        [ -n "$probe" ] || undo "no commit came within $deadline s"
        in_time probe "$deadline" "$probe" || undo "no commit came within $deadline s, and $why" ;;
esac
[ "$(live)" = "$release" ] || undo "somebody set the link current to something else while the release was proved"
record || undo "state.json could not be written"
flush
rm -f .activation/pending
phase committed
