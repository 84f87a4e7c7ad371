# What a release's files are proved by. verified/<release> is what `stat` said of its files just before they were
# hashed: as long as it says the same, inode, size, date of content and of change, nobody has touched them since.

# The manifest's lines in the form of sha256sum -c.
sums() { sed -n '2,$s/^\([0-9a-f]*\) [0-9]* \(.*\)$/\1  .\/\2/p' "$1"; }

stats() {
    (cd -- "$1" && TZ=UTC0 find . ! -type d -exec stat -c '%i %s %y %n
%z' {} +) 2>/dev/null
}

irregular() { (cd -- "$1" && find . ! -type d ! -type f); }

untouched() { [ -z "$verify_all" ] && [ -f "verified/$1" ] && [ "$(stats "releases/$1")" = "$(sed '' "verified/$1")" ]; }

# Our own links and removals change only the date of change, of files that other releases share. So what was untouched
# before them is recorded again, if all else is as it was.
remember_untouched() {
    [ -d verified ] || mkdir -p verified
    for folder in releases/*; do
        ! untouched "${folder##*/}" || say "${folder##*/}"
    done
}
record_again() {  # record_again RELEASE…
    for known in "$@"; do
        found=$(stats "releases/$known") || continue
        # Half a record, of a host that went down meanwhile, is one of no file as it is.
        [ "$(say "$found" | sed 'n;d')" != "$(sed 'n;d' "verified/$known")" ] || say "$found" >"verified/$known"
    done
}

# openssl uses the processor's own instructions, which many a sha256sum does not: five times as fast here.
as_listed() { [ "$(openssl dgst -sha256 -r "$@" 2>/dev/null)" = "$sums" ]; }
all_as_listed() (
    newline='
'
    IFS=$newline sums=
    set -f --
    for line in $list; do
        set -- "$@" "${line#*  }"
        sums="$sums${sums:+$newline}${line%%  *} *${line#*  }"
        [ $# -lt 200 ] || { as_listed "$@" || exit 1; set -- && sums=; }
    done
    [ $# = 0 ] || as_listed "$@"
)
# Says which files of a list on stdin are not as it says: `proven` if all are. sha256sum has the last word; that it
# ended well, and not that it complained of none, is the proof.
proved() {
    list=$(sed '')
    [ -n "$list" ] || { say proven; return; }
    if command -v openssl >/dev/null 2>&1 && all_as_listed; then
        say proven
        return
    fi
    if out=$(say "$list" | sha256sum -c 2>/dev/null); then
        say proven
    else
        out=$(say "$out" | sed -n '/: OK$/d;s/: [^:]*$//p')
        say "${out:-sha256sum did not end well}"
    fi
}

# Reads a whole release, unless nobody has touched it since that was done; says as `proved`.
proved_release() {
    ! untouched "$1" || { say proven; return; }
    stats "releases/$1" >.verified.new
    files=$(($(lines .verified.new) / 2)) wanted=$(($(lines "manifests/$1") - 1))
    out=$(cd -- "releases/$1" && sums "../../manifests/$1" | proved)
    if [ "$out" = proven ] && [ "$files" -ne "$wanted" ]; then
        out="there are $files files, and the manifest has $wanted"
    fi
    # What a link leads to may change, and nothing here shows it.
    strange=$(irregular "releases/$1" | sed -n 1,3p)
    [ -z "$strange" ] || out="these are no files: $strange"
    [ "$out" != proven ] || { mkdir -p verified && mv -f .verified.new "verified/$1"; }
    rm -f .verified.new
    say "$out"
}
