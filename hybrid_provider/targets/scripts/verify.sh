# Reads every file of a release that is here already, unless nobody has touched it since that was done.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
present || fail "release $release is not here"
out=$(proved_release "$release" | sed -n 1,3p)
[ "$out" = proven ] || fail "changed since it was staged: $out"
say verified
