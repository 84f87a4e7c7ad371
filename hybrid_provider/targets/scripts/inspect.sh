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
sums "../../manifests/$current" | proved | sed -n '/^proven$/d;s/^\(\.\/\)\{0,1\}/changed /p'
# What is in one of the two lists only: files that nobody brought.
{ sums "../../manifests/$current" | sed 's/^[0-9a-f]*  //'; find . ! -type d; } | sort | uniq -u | sed 's/^\.\//changed /'
irregular . | sed 's/^\.\//changed /'
exit 0
