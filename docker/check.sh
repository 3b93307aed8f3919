#!/usr/bin/env bash
# `make docker-check`: lints the Dockerfile, then builds the image and runs the demo in it, with buildah and no container
# engine. Runs as root on a Debian or Ubuntu machine; uses about 45 GB of disk temporarily, and leaves nothing behind.
#
# The base image is made by debootstrap. What this machine needs to reach its package mirrors (apt's mirror, pip's and uv's
# settings, its own certificate authorities) goes into that base, and so never into the Dockerfile.
# shellcheck disable=SC2016  # what stands in single quotes is expanded in the image
set -euo pipefail
cd "$(dirname "$0")/.."

hadolint="${HADOLINT:-.venv/bin/hadolint}"
image=clip-moderation:check
base=docker.io/library/debian:bookworm-slim

say() { printf '\n== %s\n' "$*"; }

missing=()
[ -x "$hadolint" ] || missing+=("hadolint, by \`make install\`")
command -v buildah > /dev/null || missing+=("buildah, by \`apt-get install buildah\`")
command -v debootstrap > /dev/null || missing+=("debootstrap, by \`apt-get install debootstrap\`")
[ "$(id -u)" = 0 ] || missing+=("root: debootstrap makes devices and changes owners")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'docker-check needs %s\n' "${missing[@]}" >&2
    exit 1
fi

say "hadolint"
"$hadolint" docker/Dockerfile
echo "no finding"

work="$(mktemp -d "${TMPDIR:-/var/tmp}/docker-check.XXXXXX")"
export BUILDAH_ISOLATION=chroot
export TMPDIR="$work/tmp"  # where buildah keeps the build's cache

# overlay is faster and uses less disk, but not every machine may mount one.
mkdir "$work/tmp" "$work/lower" "$work/upper" "$work/over" "$work/merged"
STORAGE_DRIVER=vfs
if mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/over" "$work/merged" 2> /dev/null; then
    umount "$work/merged"
    STORAGE_DRIVER=overlay
fi
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$STORAGE_DRIVER" "$@"; }

clean() {
    buildah rm --all > /dev/null 2>&1 || true
    buildah rmi --all --force > /dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
}
trap clean EXIT

say "base: Debian bookworm, by debootstrap"
mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' 'Created-By: Packages' | head -n 1)"
debootstrap --variant=minbase bookworm "$work/bookworm" ${mirror:+"$mirror"} > "$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log" >&2; exit 1; }
for file in /etc/pip.conf /etc/uv/uv.toml; do
    [ ! -e "$file" ] || install -D -m 644 "$file" "$work/bookworm$file"
done
if [ -n "${SSL_CERT_FILE:-}" ]; then
    install -D -m 644 "$SSL_CERT_FILE" "$work/bookworm/usr/local/share/ca-certificates/this-machine.crt"
fi
container="$(buildah from scratch)"
buildah add --quiet "$container" "$work/bookworm" / > /dev/null
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_INDEX; do
    [ -z "${!name:-}" ] || buildah config --env "$name=${!name}" "$container"
done
buildah config --env UV_SYSTEM_CERTS=1 --cmd bash "$container"
buildah commit --quiet --rm "$container" "$base" > /dev/null
rm -rf "$work/bookworm"

say "build, on storage driver $STORAGE_DRIVER"
SECONDS=0
buildah bud --quiet --pull-never --network host --format docker --file docker/Dockerfile --tag "$image" . > /dev/null
echo "$SECONDS seconds; $(buildah images --format '{{.Size}}' "$image")"

# Each command runs in its own namespaces: without a network, and without seeing this machine's processes.
container="$(buildah from --pull-never "$image")"
in_image() {
    unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$@"' sh \
        buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$STORAGE_DRIVER" \
        run --network host "$container" -- "$@"
}

say "what the image holds"
in_image bash -euc '
    [ "$(id -u)" != 0 ] || { echo "it runs as root"; exit 1; }
    for tool in cc gcc g++ make git pip pip3 uv pytest mypy; do
        ! command -v "$tool" || { echo "$tool should not be here"; exit 1; }
    done
    for module in pip uv pytest moto mypy; do
        ! python -c "import $module" 2> /dev/null || { echo "the module $module should not be here"; exit 1; }
    done
    for place in /app /opt/venv /opt/moderation; do
        [ ! -w "$place" ] || { echo "its user can write to $place"; exit 1; }
    done
    [ -w /models ] && [ -w /work ] || { echo "its user cannot write to /models or /work"; exit 1; }
    bash -lc "command -v moderate && command -v prefect && command -v ray" > /dev/null ||
        { echo "a login shell does not find its commands"; exit 1; }
    cd /app && moderate policy check moderation/demo/policy.yaml policies/community.yaml > /dev/null
    sh /app/docker/steps.sh
    echo "user $(id -u); no compiler, no installer, no test tool; the program is not writable for its user"
'

say "the demo, in the image, without a network"
SECONDS=0
in_image moderate demo
echo "$SECONDS seconds"

say "the health check: an idle container, a Ray head with the right token, with a wrong one, and with its head killed"
in_image bash -euc '
    health() { python /app/docker/healthcheck.py > /dev/null 2>&1; }
    health || { echo "ill while idle"; exit 1; }
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=only-for-this-check-0123456789abcdef
    ray start --head --num-cpus 1 > /dev/null 2>&1
    health || { echo "ill beside a Ray that is well"; exit 1; }
    ! RAY_AUTH_TOKEN=another-token-0123456789abcdef012345 health || { echo "well with a wrong token"; exit 1; }
    for process in /proc/[0-9]*; do
        case "$(tr "\0" " " < "$process/cmdline")" in */gcs_server\ *) kill -9 "${process#/proc/}" ;; esac
    done
    ! health || { echo "well without a head of Ray"; exit 1; }
    echo "well, well, ill, ill: as it should be"
'

say "docker-check passed"
