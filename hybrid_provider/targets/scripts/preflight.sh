# Answers with one line for each fault, or takes the lease and says what is here. Also takes `ttl`, `wait` and
# `probe_tools`.
faults=0
fault() { say "fault $*"; faults=1; }
tools='date find flock ln mkdir mv rm sed sha256sum sleep stat tar'
for tool in $tools; do
    command -v "$tool" >/dev/null 2>&1 || fault "the program $tool is missing; install coreutils, util-linux, tar, or BusyBox"
done
for choice in $probe_tools; do
    any= IFS=/
    for tool in $choice; do
        ! command -v "$tool" >/dev/null 2>&1 || any=$tool
    done
    unset IFS
    [ -n "$any" ] || fault "the probe asks on the host by $choice, and that is missing; install it, or leave on_host out"
done
[ -d "$base/$model" ] || out=$(mkdir -p -- "$base/$model" 2>&1) || fault "cannot make the folder $base/$model: ${out##*: }"
if cd -- "$base/$model" 2>/dev/null; then
    # Owner and rights of the folder, and of the one above.
    set -- $(stat -c '%u %A' . ..)
    [ -O . ] || fault "the folder $PWD belongs to user id $1, and we log in as ${LOGNAME:-another}; give it to us with chown"
    [ -O .. ] || [ "$3" = 0 ] ||
        fault "the folder $(cd .. && pwd) belongs to user id $3, who could put another in the place of ours; give it to us or to root with chown"
    # Whoever may write here could lead us anywhere by links.
    case $2 in ????????w?) fault "anybody may write into $PWD; chmod o-w" ;; esac
    case $4 in ????????w[!tT]) fault "anybody may write into $(cd .. && pwd); chmod o-w" ;; esac
    for folder in releases manifests verified .staging .activation .pruned; do
        [ ! -L "$folder" ] || fault "$PWD/$folder is a link, and must be a folder on the same disk; move it away"
    done
    [ -w . ] || fault "cannot write into $PWD: $( (: >.writable) 2>&1 | sed 's/.*: //')"
    if [ -e current ] || [ -L current ]; then
        [ -n "$(live)" ] || fault "$PWD/current is no link to one of its releases; move it away"
    fi
    ! free=$(stat -f -c '%a %S %c %d' . 2>/dev/null) || say "free $free"
    say "folder $PWD"
elif [ -d "$base/$model" ]; then
    fault "cannot enter the folder $base/$model"
fi
[ "$faults" = 0 ] || exit 0

# An activation that waits for its commit holds the lock. Ours, from a worker that died: it goes back first.
if ! lock; then
    lease
    [ "$holder" = "$rollout" ] || { say "locked $holder"; exit 0; }
    read -r token from <.activation/pending && say >".activation/revert-$token"
    lock "$wait" || { say "locked $holder"; exit 0; }
fi
lease
now=$(date +%s)
# Where the clock was put back since, a dead worker's would hold for as long as the clock had been ahead.
if [ "${taken:=$held}" -gt "$now" ]; then
    expires=$((now + expires - taken))
    take_lease "$holder" "$held" "$expires" "$held_by" "$now"
fi
if [ "$holder" != "$rollout" ] && [ "$expires" -gt "$now" ]; then
    say "locked $holder $((expires - now))"
    exit 0
fi

heal

# Later than any before, also when the lease was given back and its file is gone.
epoch=$((held + 1)) overtaken=$held_by
[ "$epoch" -gt "$now" ] || epoch=$now
take_lease "$rollout" "$epoch" $((now + ttl)) "$nonce" "$now" || { fault "cannot write into $PWD; if its disk is full, free space there or lower keep_releases"; exit 0; }
# Whoever is not there any more to hear of the lease cannot give it back.
trap 'rm -f .lease; exit 1' PIPE
state
current=$(live)
say "epoch $epoch" || { rm -f .lease; exit 1; }
say "overtaken $overtaken"
say "sum $(say "$nonce" | sha256sum)"
say "current $current"
say "pinned $(pinned)"
[ -n "$current" ] && [ "$current" = "$proven" ] && say "committed $proven_digest $((now - since))"
# Where another release is live than the one that was proved last, that one is what to go back to.
[ "$current" != "$proven" ] || proven=$before
! has "$proven" || say "previous $proven"
here=
! present || here=yes
[ -z "$here" ] || say present
# What a stream that was cut left of this release is for its retry.
clear_away .pruned
left=
for folder in .staging/*; do
    case $here$folder in .staging/"$release"-*) left=yes ;; *) clear_away "$folder" ;; esac
done
[ -z "$left" ] || say "left $(($(find .staging -type f -exec stat -c '%s +' {} +) 0))"
[ -n "$digest" ] && [ -z "$here" ] || exit 0

# What may be linked from: the live release, and others as long as their manifests make no endless answer.
say manifests
told= room=8000000
for folder in releases/"$current" releases/*; do
    name=${folder##*/}
    has "$name" && [ "$name" != "$told" ] || continue
    told=${told:-$name}
    room=$((room - $(stat -c %s "manifests/$name")))
    [ "$room" -gt 0 ] || break
    say "manifest $name"
    sed '' "manifests/$name"
done
exit 0
