# Appends the rest, from stdin, to the file `start`, of which a stream that was cut brought the first `size` bytes.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
[ "$(stat -c %s "$start")" = "$size" ] || fail "unlinkable: $start is not as long any more as it was"
cat >>"$start" || fail "cannot write $PWD/$start"
say appended
