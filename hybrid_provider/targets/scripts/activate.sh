# The activation itself. It goes back by itself, unless the worker commits within `deadline` seconds; so whatever
# becomes of the worker, the host ends on one proven release. It is started in the model's folder, under its lock.
# Also takes `token` and `reload`.
# Caught and not ignored: what the reload command starts would inherit the ignoring.
trap : HUP PIPE
started=$(ticks)
phase() { printf '%s\n' "$*" >.activation/phase.new && mv -f .activation/phase.new ".activation/phase-$token"; }

# The one commit point: what state.json names is proven. previous: the last other one that was.
record() {
    sum=$(sha256sum <"manifests/$release")
    previous=$(field release_id)
    [ "$previous" != "$release" ] || previous=$(field previous)
    cat >state.json.new <<END && flush && mv -f state.json.new state.json
{
  "model": "$model",
  "release_id": "$release",
  "digest": "${sum%% *}",
  "previous": "$previous",
  "rollout": "$rollout",
  "epoch": $epoch,
  "since": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "since_epoch": $(date +%s)
}
END
}

undo() {
    reason=$1
    phase "reverting $reason"
    if ! flip "$from"; then
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

from=$(live)
printf '%s %s\n' "$token" "$from" >.activation/pending && flush || { phase "refused cannot write in $PWD"; exit 1; }
phase activating
flip "$release" || undo "the link could not be set"
reload || undo "$why"
phase active
end=$((started + deadline))
until [ -e ".activation/commit-$token" ]; do
    [ ! -e ".activation/revert-$token" ] || undo "the worker asked for it"
    [ "$(ticks)" -lt "$end" ] || undo "no commit came within $deadline s"
    nap
done
record || undo "state.json could not be written"
flush
rm -f .activation/pending
phase committed
