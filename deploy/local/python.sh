# Sourced by the programs in bin/: sets $python to a Python that can run Muster, or says why there is none.

python=
found=
for candidate in ${MUSTER_PYTHON:+"$MUSTER_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    version=$("$path" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
    if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$path
        break
    fi
    found="${found:+$found, }$path is $version"
done
if [ -z "$python" ]; then
    echo "Muster needs Python 3.11 or later (${found:-there is no Python on the PATH}): install one, or name it in MUSTER_PYTHON." >&2
    exit 1
fi
