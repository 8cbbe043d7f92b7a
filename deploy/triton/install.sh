#!/usr/bin/env bash
# install.sh [FOLDER]: a real Triton 2.51 and perf_analyzer 2.51 into FOLDER (.triton at the repository root). No Docker,
# no root. It is built aside and put in place whole; what stands there already and fits the pins is left alone.
# PYTHON names the interpreter that runs the models: 3.11 or 3.12, x86-64 Linux, built with a shared libpython.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-$here/../../.triton}
python=${PYTHON:-python3}
client=tritonclient==2.51.0 # the last wheel whose perf_analyzer runs with glibc 2.36

fail() { echo "install.sh: $*" >&2; exit 1; }

[[ $(uname -sm) == "Linux x86_64" ]] || fail "Triton's programs are for x86-64 Linux; this is $(uname -sm)"
series=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $series == 3.11 || $series == 3.12 ]] || fail "Python $series has no numpy below 2; name another with PYTHON=python3.11"
libdir=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')

mkdir -p "$root"
root=$(cd "$root" && pwd)
exec 9>"$root/lock"
flock 9 # one at a time

key=$({ cat "$here/requirements.txt" "$here/install.sh"; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum)
if [[ -x $root/env/bin/python && $(cat "$root/installed" 2>/dev/null) == "$key" ]]; then
  touch "$root/installed" # make compares its time with that of the pins
  exit 0
fi

echo "installing Triton into $root ..."
rm -rf "$root/next"
next=$root/next
"$python" -m venv "$next"
pip=("$next/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install --no-deps --only-binary :all: --requirement "$here/requirements.txt"

packages=lib/python$series/site-packages
server=$packages/pytriton/tritonserver
mkdir "$next/backends" "$next/backends/python"
cp "$next/$server"/backends/python/{libtriton_python.so,triton_python_backend_utils.py} "$next/backends/python/"
stub=$next/backends/python/triton_python_backend_stub
cp "$next/$server/python_backend_stubs/$series/triton_python_backend_stub" "$stub"
chmod +x "$stub"
ln -s "$here/backends/onnxruntime" "$next/backends/onnxruntime"
ln -s "../$server/bin/tritonserver" "$next/bin/tritonserver"
ln -s "$server/caches" "$next/caches"
ln -s "$packages" "$next/packages"
mkdir "$next/lib/shared"
if [[ -e $libdir/libpython$series.so.1.0 ]]; then
  ln -s "$libdir/libpython$series.so.1.0" "$next/lib/shared/"
fi
missing=$(LD_LIBRARY_PATH=$next/lib/shared:$next/packages/nvidia_pytriton.libs ldd "$stub" | awk '/not found/ {print $1}')
[[ -z $missing ]] || fail "$missing is missing: $python has no shared library (Debian: apt install libpython$series)"

# perf_analyzer lies in the client's wheel as a data file; its libraries come with pytriton under other names.
mkdir "$next/perf"
"${pip[@]}" download --no-deps --only-binary :all: --dest "$next/perf" "$client"
"$next/bin/python" - "$next/perf" <<'P'
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith("/data/bin/perf_analyzer")]
    (folder / "perf_analyzer").write_bytes(archive.read(member))
(folder / "perf_analyzer").chmod(0o755)
wheel.unlink()
P
for library in libcudart.so.12 libb64.so.0d; do
  found=("$next/packages/nvidia_pytriton.libs/${library%%.*}"-*."${library#*.}"*)
  ln -s "../packages/nvidia_pytriton.libs/$(basename "${found[0]}")" "$next/perf/$library"
done
LD_LIBRARY_PATH=$next/perf "$next/perf/perf_analyzer" --version &>/dev/null || fail "perf_analyzer does not run: $(LD_LIBRARY_PATH=$next/perf ldd "$next/perf/perf_analyzer" 2>&1 | grep -i "not found")"
"$next/bin/python" -c 'import numpy, onnxruntime'

rm -rf "$root/installed" "$root/env"
mv "$next" "$root/env"
printf '%s\n' "$key" >"$root/installed"
