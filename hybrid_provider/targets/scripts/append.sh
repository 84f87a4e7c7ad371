# Appends the rest, the one member of a tar stream on stdin, to the file `start`, of which a stream that was cut brought
# the first `size` bytes.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
[ "$(stat -c %s "$start")" = "$size" ] || fail "unlinkable: $start is not as long any more as it was"
tar -x -O -f - >>"$start" || fail "cannot write $PWD/$start"
say appended
