# Starts the activation that stdin holds, detached: it inherits the lock, and nothing that ends with this connection.
cd -- "$base/$model" || fail "cannot enter $base/$model"
lock || fail "another activation is under way"
fenced
rm -rf .activation && mkdir .activation && cat >.activation/run || fail "cannot write $PWD/.activation/run"
present || fail "release $release is not here, whole; it was changed or pruned"
(exec setsid sh .activation/run </dev/null >.activation/log 2>&1) &
say started
