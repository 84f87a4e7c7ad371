# Pins the target to `release`, which is here, or to none.
cd -- "$base/$model" || fail "cannot enter $base/$model"
if [ -z "$release" ]; then
    rm -f pin || fail "cannot write in $PWD"
else
    has "$release" || fail "release $release is not here, so the target cannot be pinned to it"
    printf '%s\n' "$release" >pin.new && mv -f pin.new pin || fail "cannot write in $PWD"
fi
flush
say pinned
