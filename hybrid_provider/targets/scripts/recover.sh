# After an activation whose script was killed.
cd -- "$base/$model" || fail "cannot enter $base/$model"
lock || fail "an activation is under way"
fenced
heal
say healed
