# Gives the lease back and removes old releases, never the live, the pinned and the last proven two. Also takes `keep`.
cd -- "$base/$model" || exit 0
lock || exit 0
lease
[ "$holder" = "$rollout" ] && [ "$held" = "$epoch" ] || exit 0
state
current=$(live) pin=$(pinned)
kept=0
for name in $(ls -1 releases 2>/dev/null | LC_ALL=C sort -r); do
    kept=$((kept + 1))
    case $name in "$current" | "$proven" | "$before" | "$pin") continue ;; esac
    [ "$kept" -gt "$keep" ] || continue
    # Never half a release under its name.
    mkdir -p .staging && rm -f "manifests/$name" && mv -T "releases/$name" ".staging/$name"
done
rm -rf .staging .lease
# What a failed first deploy leaves is nothing.
rmdir releases manifests "$PWD" 2>/dev/null
exit 0
