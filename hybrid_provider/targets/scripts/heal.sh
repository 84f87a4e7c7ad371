# Under the lock: where an activation was cut off, by a loss of power or a kill, the release that nobody committed
# gives way to the one before.
heal() {
    [ -f .activation/pending ] || return 0
    read -r token from <.activation/pending
    was=$(live)
    if [ "$was" != "$(field release_id)" ] && [ "$was" != "$from" ]; then
        flip "$from" || fail "cannot undo the interrupted activation of $was"
        [ -z "$from" ] || reload || fail "undid the interrupted activation of $was, but $why"
        say "undone $was"
    fi
    rm -f .activation/pending
}
