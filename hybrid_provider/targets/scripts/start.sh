# Starts the text `activation`, detached: it inherits the lock, and nothing that ends with this connection.
cd -- "$base/$model" || fail "cannot enter $base/$model"
lock || fail "another activation is under way"
fenced
{ if [ -d .activation ]; then rm -rf .activation/*; else mkdir -m 700 .activation; fi; } &&
    say "$activation" >.activation/run || fail "cannot write $PWD/.activation/run"
own_session=
! command -v setsid >/dev/null 2>&1 || own_session=setsid
(exec $own_session sh .activation/run </dev/null >.activation/log 2>&1) &
say started
