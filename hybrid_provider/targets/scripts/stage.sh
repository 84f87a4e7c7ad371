# Reads a tar stream of manifest, links, check/…, kin/… and files/…, and makes a release of it once every byte is
# proven. A stream that is cut leaves what arrived for the next one. Also takes `stream`, a name of its own, `needed`,
# how many bytes it brings, and `files`, how many the release has.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
staging=.staging/$release-$epoch-$stream
abandon() {
    rm -rf "$staging"
    fail "$*; $room"
}
room="$(($(stat -f -c '%a * %S' .))) bytes were free in $PWD, and $needed needed"
clear_away "$staging"
mkdir -p "$staging/files" releases manifests || fail "cannot make $PWD/$staging; $room"

# -o: files belong to us and not to whoever owns them on the worker. GNU tar reads as much as a pipe holds, and takes no
# other options from our environment; BusyBox's knows neither.
out=$(TAR_OPTIONS='-b 128' tar -x -o -f - -C "$staging" 2>&1) ||
    fail "the stream did not unpack: $(say "$out" | brief); $room; if the disk is full, free space there or lower keep_releases"
sum=$(sha256sum <"$staging/manifest")
[ "${sum%% *}" = "$digest" ] || fail "the stream ended early or was changed on its way: its manifest is not that of $digest"

# Each line: a file that is here, a tab, and where it belongs in this release. One `ln` for all that keep their name.
tab=$(printf '\t')
set -- $(remember_untouched)
known=$*
link() {
    [ $# -lt 2 ] || out=$(ln "$@" 2>&1) || abandon "unlinkable: $out"
}
set -- && into=
while IFS=$tab read -r from to; do
    folder=$staging/files/
    case $to in */*) folder=$folder${to%/*}/ ;; esac
    if [ "$folder" != "$into" ] || [ "${from##*/}" != "${to##*/}" ] || [ $# -gt 200 ]; then
        link "$@" "$into" && set -- && into=$folder
        [ -d "$folder" ] || mkdir -p "$folder"
    fi
    if [ "${from##*/}" = "${to##*/}" ]; then
        set -- "$@" "$from"
    else
        link "$from" "$staging/files/$to"
    fi
done <"$staging/links"
link "$@" "$into"
# The last that may change a date before the files are proven.
for folder in .staging/*; do
    [ "$folder" = "$staging" ] || rm -rf "$folder"
done

# check/… travelled, in shares for several processors; kin/<release> is linked from there, and as good as it is there.
seen=$(stats "$staging/files")
[ "$(say "$seen" | sed -n '$=')" -eq $((2 * files)) ] || abandon "the files are not those of the manifest"
lists=
for list in "$staging"/check/* "$staging"/kin/*; do
    [ -f "$list" ] || continue
    case " $known " in *" ${list##*/} "*) continue ;; esac
    lists="$lists ${list##*/}"
    (cd "$staging/files" && proved <"../${list#"$staging"/}" >"../proof-${list##*/}") &
done
wait
for list in $lists; do
    proof=$staging/proof-$list out=
    read -r out <"$proof"
    [ "$out" = proven ] || abandon "unproven: $(sed -n 1,3p "$proof")"
done
flush

lock || abandon "another rollout works on this target"
fenced
# What is there under this name is not the release: someone changed it. It leaves only now.
[ ! -e "releases/$release" ] || mv -T "releases/$release" "$staging/changed" || abandon "cannot replace releases/$release"
clear_away "verified/$release"
mv -f "$staging/manifest" "manifests/$release" && mv -T "$staging/files" "releases/$release" ||
    abandon "cannot move the release into $PWD/releases"
say "$seen" >"verified/$release"
# All of it is on the disk; its new name will be when an activation has flushed, or it is brought again.
rm -rf .staging
record_again $known
say staged
