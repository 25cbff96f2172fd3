#!/usr/bin/env bash
# What compose.yaml needs before its first start: random passwords that nobody else can read, and a folder for results.
# What is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")"
umask 077

# The containers run as whoever owns the files; root runs nothing, so its containers get the first ordinary user.
uid=${SUDO_UID:-$(id -u)} gid=${SUDO_GID:-$(id -g)}
if [ "$uid" = 0 ]; then uid=1000 gid=1000; fi

random() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }

mkdir -p secrets
[ -e secrets/ray_token ] || random >secrets/ray_token
[ -e secrets/postgres_password ] || random >secrets/postgres_password
printf '*:*:*:adaloss:%s\n' "$(cat secrets/postgres_password)" >secrets/pgpass
[ -d ../results ] || install --directory --mode 755 ../results
if [ ! -e .env ]; then
    cores=$(nproc)
    printf '%s\n' ADALOSS_SECRETS=./secrets ADALOSS_UID="$uid" ADALOSS_GID="$gid" ADALOSS_WORKERS=2 \
        ADALOSS_WORKER_CPUS=$(((cores + 1) / 2)) >.env
fi
if [ "$(id -u)" = 0 ]; then chown -R "$uid:$gid" secrets ../results; fi
echo "passwords: docker/secrets, settings: docker/.env, results: results"
