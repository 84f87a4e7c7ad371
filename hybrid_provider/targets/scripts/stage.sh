# Reads a tar stream of manifest, links and files/…, and makes a release of it once every byte is proven.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
staging=.staging/$release-$epoch
abandon() {
    rm -rf "$staging"
    fail "$*; $free bytes were free"
}
free=$(($(stat -f -c '%a * %S' .)))
rm -rf "$staging"
mkdir -p "$staging/files" releases manifests || fail "cannot make $PWD/$staging"

# -o: files belong to us and not to whoever owns them on the worker.
out=$(tar -x -o -f - -C "$staging" 2>&1) || abandon "the stream did not unpack: $(printf '%s' "$out" | tail -n 3 | tr '\n' ' ')"

# Each line: a file of a release that is here, a tab, and where it belongs in this one.
tab=$(printf '\t')
while IFS=$tab read -r from to; do
    case $to in */*) mkdir -p "$staging/files/${to%/*}" ;; esac
    out=$(ln "releases/$from" "$staging/files/$to" 2>&1) || abandon "unlinkable: $out"
done <"$staging/links"

sum=$(sha256sum <"$staging/manifest")
[ "${sum%% *}" = "$digest" ] || abandon "the stream ended early or was changed on its way: its manifest is not that of $digest"
out=$(cd "$staging/files" && sums ../manifest | sha256sum -c 2>/dev/null | grep -v ': OK$' | head -n 3)
[ -z "$out" ] || abandon "unproven: $out"
[ "$(find "$staging/files" ! -type d | grep -c .)" = "$(sums "$staging/manifest" | grep -c .)" ] ||
    abandon "there are more files than the manifest has"
flush

lock || abandon "another rollout works on this target"
fenced
# What is there under this name is not the release: someone changed it. It leaves only now.
[ ! -e "releases/$release" ] || mv -T "releases/$release" "$staging/changed" || abandon "cannot replace releases/$release"
mv -f "$staging/manifest" "manifests/$release" && mv -T "$staging/files" "releases/$release" ||
    abandon "cannot move the release into $PWD/releases"
flush
rm -rf .staging
say staged
