# Prints a Python that can run Interlock (3.11 or newer, with venv), or says what is missing.
for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$python"
            exit 0
        fi
        found=$python
    fi
done
if [ -n "${found:-}" ]; then
    echo "$found has no venv module, so no environment can be made. On Debian and Ubuntu: apt-get install python3-venv." >&2
else
    echo "Interlock needs Python 3.11 or newer and none was found. Install one and run make again." >&2
fi
exit 1
