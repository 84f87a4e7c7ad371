# Gives the lease back and removes old releases, never the live, the pinned and the last proven two. Also takes `keep`,
# and `keep_left` where a retry may go on with what a stream that was cut left.
cd -- "$base/$model" || exit 0
lock || exit 0
ours || exit 0
set -- releases/*
old=$(($# - keep)) gone=
if [ "$old" -gt 0 ]; then
    state
    current=$(live) pin=$(pinned)
fi
for folder in "$@"; do
    [ "$old" -gt 0 ] || break
    old=$((old - 1))
    case ${folder##*/} in "$current" | "$proven" | "$before" | "$pin" | '*') ;; *) gone="$gone ${folder##*/}" ;; esac
done
if [ -n "$gone" ]; then
    known=$(remember_untouched)
    mkdir -p .pruned
    for name in $gone; do
        # Never half a release under its name.
        rm -f "manifests/$name" "verified/$name" && mv -T "releases/$name" ".pruned/$name"
    done
    rm -rf .pruned
    record_again $known
fi
rm -f .lease
[ -n "$keep_left" ] || clear_away .staging
# What a failed first deploy leaves is nothing.
[ -d "$1" ] || rmdir releases manifests verified "$PWD" 2>/dev/null
exit 0
