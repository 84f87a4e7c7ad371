# Says which files of a stream that was cut are here, and how much of each.
cd -- "$base/$model" || fail "cannot enter $base/$model"
fenced
for folder in .staging/"$release"-*; do
    [ ! -d "$folder/files" ] || (cd "$folder/files" && find . -type f -exec stat -c "arrived %s $folder/files/%n" {} +)
done
exit 0
