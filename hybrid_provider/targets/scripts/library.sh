# What all scripts share. POSIX sh with what dash and BusyBox have; variables in lower case come from the worker:
# base, model, release, digest, rollout, epoch, nonce.
umask 022
# With them, `cd` may go elsewhere and say so, and tar do other things.
unset CDPATH TAR_OPTIONS

# One line of the answer; `fail` is the last one.
say() { printf '%s\n' "$*"; }
fail() { say "fail $*"; exit 1; }
# The last three lines of stdin as one, and how many lines a file has.
brief() { sed -e :a -e '$!{N' -e '4,$D;ba' -e '}' -e 's/\n/ /g'; }
lines() { sed -n '$=' "$1"; }
nap() { sleep 0.1 2>/dev/null || sleep 1; }
# Most of what is waited for comes at once: the first naps of a wait, which sets `dozes` to 0, are shorter.
doze() {
    dozes=$((dozes + 1))
    { [ "$dozes" -le 4 ] && sleep "0.0$((2 * dozes))" 2>/dev/null; } || nap
}

# `rm -rf` of one path, for which no process is started where nothing is there.
clear_away() { { [ ! -e "$1" ] && [ ! -L "$1" ]; } || rm -rf "$1"; }

# Sets `tick`: seconds that no clock correction moves, without starting a process where Linux has them.
ticks() { { read -r tick _ </proc/uptime && tick=${tick%%.*}; } 2>/dev/null || tick=$(date +%s); }

# What state.json says, which only record() writes, one value on a line.
state() {
    proven= proven_digest= before= by= since=0 since_words=
    [ -f state.json ] || return 0
    while read -r key value; do
        value=${value%,} value=${value#\"} value=${value%\"}
        case $key in
            '"release_id":') proven=$value ;;
            '"digest":') proven_digest=$value ;;
            '"previous":') before=$value ;;
            '"rollout":') by=$value ;;
            '"since":') since_words=$value ;;
            '"since_epoch":') since=$value ;;
        esac
    done <state.json
}

# Of `current -> releases/…`, which each stat quotes in its own way.
live() {
    [ -L current ] || return 0
    link=$(stat -c %N current 2>/dev/null)
    link=${link##*-> } link=${link#[\'\`\"]} link=${link%[\'\"]}
    case $link in releases/*) say "${link##*/}" ;; esac
}

pinned() { { read -r pin <pin && say "$pin"; } 2>/dev/null; }

# Everything written so far is on the disk after this, where the host has the means; BusyBox may know only the plain form.
flush() { ! command -v sync >/dev/null 2>&1 || sync -f . 2>/dev/null || sync; }

# The swap is one rename: `ln -sf` would leave a moment without a link. Without a release there is no link.
flip() {
    if [ -n "$1" ]; then
        clear_away .current.new && ln -s "releases/$1" .current.new && mv -T .current.new current
    else
        rm -f current
    fi
}

# The lock is on the model's folder and dies with the processes that hold descriptor 9, whatever ends them. Short
# holders are waited for.
lock() {
    exec 9<. || fail "cannot open $PWD"
    tries=0
    until flock -n 9; do
        tries=$((tries + 1))
        [ "$tries" -lt "${1:-20}" ] || return 1
        nap
    done
}

lease() {
    holder= held=0 expires=0 held_by= taken=0
    [ ! -f .lease ] || read -r holder held expires held_by taken <.lease
}

take_lease() {  # take_lease HOLDER EPOCH EXPIRES NONCE NOW
    printf '%s %s %s %s %s\n' "$@" >.lease.new && mv -f .lease.new .lease
}

# A worker that lost its lease, because it was thought dead, must not act on what it once knew. Its nonce tells its lease
# from one that was taken in the same second after it was given back.
ours() { lease; [ "$holder" = "$rollout" ] && [ "$held" = "$epoch" ] && [ "$held_by" = "$nonce" ]; }
fenced() {
    ! ours || return 0
    fail "superseded: rollout $holder (epoch $held) has taken this target over from $rollout (epoch $epoch)"
}

# A release appears whole, by one rename after its manifest; so having both is having it.
has() { [ -n "$1" ] && [ -d "releases/$1" ] && [ ! -L "releases/$1" ] && [ -f "manifests/$1" ]; }

# Going back, the worker knows no digest of the old release.
present() {
    has "$release" || return 1
    sum=$(sha256sum <"manifests/$release") || return 1
    [ -z "$digest" ] || [ "${sum%% *}" = "$digest" ]
}

