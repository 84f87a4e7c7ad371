# Reads every file of a release that is here already.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
present || fail "release $release is not here"
cd "releases/$release" || fail "cannot enter releases/$release"
out=$(sums "../../manifests/$release" | sha256sum -c 2>/dev/null | grep -v ': OK$' | head -n 3)
[ -z "$out" ] || fail "changed since it was staged: $out"
say verified
