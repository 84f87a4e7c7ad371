# Asks for `ask` (go, commit, revert or nothing) and waits up to `patience` seconds for one of the phases in `wanted`.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
file=.activation/phase-$token
[ -z "$ask" ] || say "$release $digest" >".activation/$ask-$token" ||
    fail "cannot write in $PWD/.activation"
# Whether it is in one of the phases that are wanted.
reached() {
    phase= words=
    if [ -f "$file" ]; then
        while read -r at reason; do phase=$at words=$reason; done <"$file"
    fi
    case " $wanted " in *" ${phase:-starting} "*) return 0 ;; esac
    return 1
}
ticks
end=$((tick + patience)) dozes=0
until reached; do
    # The lock is free: the script was killed, or never began. To look takes a process, and most of what is waited for
    # comes sooner.
    if [ "$dozes" -ge 4 ] && lock 1; then
        reached && break
        phase=none
        [ ! -f .activation/pending ] || phase=died
        break
    fi
    exec 9>&-
    ticks
    [ "$tick" -lt "$end" ] || break
    doze
done
say "phase ${phase:-starting} $words"
