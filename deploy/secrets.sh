#!/usr/bin/env bash
# secrets.sh [FOLDER]: what the compose file's secrets are made of, in FOLDER (deploy/secrets). What is there stays as it is.
# The folder is for its owner alone. The files are readable, since each is mounted into one container, for a user of its own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"

password() { head -c 64 /dev/urandom | base64 --wrap 0 | tr -dc 'A-Za-z0-9' | cut -c 1-43 | tr -d '\n'; }
keep() { # FILE: what comes in, unless it is there
  [[ -e $folder/$1 ]] && return
  cat >"$folder/.$1.new"
  chmod 0444 "$folder/.$1.new"
  mv "$folder/.$1.new" "$folder/$1"
  echo "made $folder/$1"
}

keep redis_password < <(password)
keep grafana_password < <(password)
digest=$(printf %s "$(<"$folder/redis_password")" | sha256sum | cut -d ' ' -f 1)
keep redis_users < <(sed "s/#DIGEST/#$digest/" "$here/redis/users.acl")
