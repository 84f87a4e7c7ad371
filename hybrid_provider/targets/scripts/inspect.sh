# Says what is here, and changes nothing. Also takes `rehash`.
cd -- "$base/$model" 2>/dev/null || { [ ! -e "$base/$model" ] || fail "cannot enter $base/$model"; exit 0; }
state
lease
current=$(live)
say "current $current"
say "committed $proven"
say "previous $before"
say "since $since"
say "by $by"
[ "$expires" -le "$(date +%s)" ] || say "holder $holder"
say "pinned $(pinned)"
for folder in releases/*; do
    ! has "${folder##*/}" || say "release ${folder##*/}"
done
[ -n "$current" ] || exit 0
[ -f "manifests/$current" ] || { say "changed its manifest"; exit 0; }
sum=$(sha256sum <"manifests/$current")
say "digest ${sum%% *}"
[ -n "$rehash" ] || exit 0
cd "releases/$current" || fail "cannot enter $PWD/releases/$current"
proof=$(sums "../../manifests/$current" | proved)
# Files that nobody brought are in one of these lists only.
if [ "$proof" != proven ] || [ "$(find . ! -type d | sed -n '$=')" != "$(sums "../../manifests/$current" | sed -n '$=')" ]; then
    [ "$proof" = proven ] || say "$proof" | sed 's/^\(\.\/\)\{0,1\}/changed /'
    sums "../../manifests/$current" | sed 's/^[0-9a-f]*  \.\//wanted /'
    find . ! -type d | sed 's/^\.\//there /'
fi
irregular . | sed 's/^\.\//changed /'
exit 0
