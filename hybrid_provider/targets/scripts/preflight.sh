# Answers with one line for each fault, or takes the lease and says what is here. Also takes `ttl`.
faults=0
fault() { say "fault $*"; faults=1; }
tools='flock cat date find grep head id ln ls mkdir mv readlink rm rmdir sed setsid sha256sum sleep sort stat sync tail tar tr'
for tool in $tools; do
    command -v "$tool" >/dev/null 2>&1 || fault "the program $tool is missing; install coreutils, util-linux, tar, or BusyBox"
done
out=$(mkdir -p -- "$base/$model" 2>&1) || fault "cannot make the folder $base/$model: $out"
if cd -- "$base/$model" 2>/dev/null; then
    owner=$(stat -c %u .)
    [ "$owner" = "$(id -u)" ] || fault "the folder $PWD belongs to user id $owner, and we log in as $(id -un); give it to us with chown"
    out=$( (: >.writable && rm -f .writable) 2>&1) || fault "cannot write into $PWD: ${out##*: }"
    if [ -e current ] || [ -L current ]; then
        [ -n "$(live)" ] || fault "$PWD/current is no link to one of its releases; move it away"
    fi
elif [ -d "$base/$model" ]; then
    fault "cannot enter the folder $base/$model"
fi
[ "$faults" = 0 ] || exit 0

# An activation that waits for its commit holds the lock. Ours, from a worker that died: it goes back first.
if ! lock; then
    lease
    [ "$holder" = "$rollout" ] || { say "locked $holder"; exit 0; }
    read -r token from <.activation/pending && printf '' >".activation/revert-$token"
    lock "$wait" || { say "locked $holder"; exit 0; }
fi
lease
if [ "$holder" != "$rollout" ] && [ "$expires" -gt "$(date +%s)" ]; then
    say "locked $holder $((expires - $(date +%s)))"
    exit 0
fi

heal

# Later than any before, also when the lease was given back and its file is gone.
now=$(date +%s)
epoch=$((held + 1))
[ "$epoch" -gt "$now" ] || epoch=$now
take_lease "$rollout" "$epoch" $((now + ttl)) || fail "cannot write in $PWD"
rm -rf .staging
current=$(live)
say "epoch $epoch"
say "current $current"
[ -n "$current" ] && [ "$current" = "$(field release_id)" ] && say "committed $(field digest) $((now - $(field since_epoch)))"
present && say present
say "free $(stat -f -c '%a %S' .)"
[ -n "$current" ] && [ -f "manifests/$current" ] && say manifest && cat "manifests/$current"
exit 0
