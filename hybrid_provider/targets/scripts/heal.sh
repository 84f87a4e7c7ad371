# Under the lock: where an activation was cut off, by a loss of power or a kill, the release that nobody committed
# gives way to the one before, and the service is told again, as nobody knows whether it was or is drained.
heal() {
    [ -f .activation/pending ] || return 0
    read -r token from <.activation/pending
    was=$(live)
    state
    if [ "$was" = "$from" ] || [ "$was" != "$proven" ]; then
        [ "$was" = "$from" ] || flip "$from" && flush || fail "cannot undo the interrupted activation of $was"
        [ -z "$from" ] || reload || fail "undid an interrupted activation, but $why"
        [ "$was" = "$from" ] || say "undone $was"
    fi
    rm -f .activation/pending
}
