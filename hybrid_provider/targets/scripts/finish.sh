# Gives the lease back and removes old releases, never the live one and never the last proven two. Also takes `keep`.
cd -- "$base/$model" || exit 0
lock || exit 0
lease
[ "$holder" = "$rollout" ] && [ "$held" = "$epoch" ] || exit 0
kept=0
for name in $(ls -1 releases | LC_ALL=C sort -r); do
    kept=$((kept + 1))
    case $name in "$(live)" | "$(field release_id)" | "$(field previous)") continue ;; esac
    [ "$kept" -gt "$keep" ] || continue
    rm -f "manifests/$name" && mv -T "releases/$name" ".staging/$name" && say "pruned $name"
done
rm -rf .staging/*
take_lease "$rollout" "$epoch" 0
