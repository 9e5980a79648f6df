#!/bin/sh
# headers.sh INCLUDE_DIRECTORY CC [CXX]: each public header compiles alone, as C11 and as C++17, without a warning.
set -u
include=$1 cc=$2 cxx=${3:-}
bad=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for header in "$include"/stellane/*.h; do
    name=stellane/$(basename "$header")
    # Twice, for the include guard; and a symbol, as an empty file is a pedantic warning.
    printf '#include <%s>\n#include <%s>\nint used_by_nobody;\n' "$name" "$name" >"$work/one.c"
    cp "$work/one.c" "$work/one.cc"
    "$cc" -std=c11 -Wall -Wextra -pedantic -Werror -I"$include" -fsyntax-only "$work/one.c" || {
        echo "headers: $name is no C11"
        bad=1
    }
    [ -n "$cxx" ] || continue
    "$cxx" -std=c++17 -Wall -Wextra -pedantic -Werror -I"$include" -fsyntax-only "$work/one.cc" || {
        echo "headers: $name is no C++17"
        bad=1
    }
done
exit $bad
