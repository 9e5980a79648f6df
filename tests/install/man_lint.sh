#!/bin/sh
# man_lint.sh DIRECTORY: mandoc has nothing to say about the pages.
set -u
command -v mandoc >/dev/null || {
    echo "mandoc is not installed (Debian: apt install mandoc): skipped"
    exit 77
}
said=$(mandoc -Tlint -Wwarning "$1"/*.[37]) && [ -z "$said" ] && exit 0
echo "$said"
exit 1
