# Asks for `ask` (go, commit, revert or nothing) and waits up to `patience` seconds for one of the phases in `wanted`.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
file=.activation/phase-$token
[ -z "$ask" ] || { printf '%s %s\n' "$release" "$digest" >.activation/ask && mv -f .activation/ask ".activation/$ask-$token"; } ||
    fail "cannot write in $PWD/.activation"
end=$(($(ticks) + patience)) dozes=0
while :; do
    phase= words=
    [ ! -f "$file" ] || read -r phase words <"$file"
    case " $wanted " in *" ${phase:-starting} "*) break ;; esac
    # The lock is free: the script was killed, or never began.
    if lock 1; then
        [ ! -f "$file" ] || read -r phase words <"$file"
        case " $wanted " in *" ${phase:-starting} "*) break ;; esac
        phase=none
        [ ! -f .activation/pending ] || phase=died
        break
    fi
    exec 9>&-
    [ "$(ticks)" -lt "$end" ] || break
    doze
done
say "phase ${phase:-starting} $words"
