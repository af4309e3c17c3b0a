#!/usr/bin/env bash
# Builds the image oncelog:dev from the files that git knows. Where no registry
# can be reached, the base image is made of the Go toolchain of this machine and
# the modules are taken from its cache, so that the build needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-oncelog:dev}
go_image=${GO_IMAGE:-golang:1.26-bookworm}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

if ! docker image inspect "$go_image" >/dev/null 2>&1 && ! timeout 60 docker pull -q "$go_image" >/dev/null 2>&1; then
  go_image=oncelog-go:local
  if ! docker image inspect "$go_image" >/dev/null 2>&1; then
    echo "no registry in reach: importing the toolchain in $(go env GOROOT) as $go_image"
    mkdir -p "$context/root/usr/local" "$context/root/tmp"
    cp -r "$(go env GOROOT)" "$context/root/usr/local/go"
    tar -C "$context/root" -c . | docker import -c 'ENV HOME=/tmp' - "$go_image" >/dev/null
    rm -rf "$context/root"
  fi
fi

git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -C "$context" -x
(cd "$context" && GOFLAGS=-mod=mod go mod vendor)
docker build -q -t "$image" --build-arg "GO_IMAGE=$go_image" -f deploy/Dockerfile "$context" >/dev/null
docker image inspect -f "built $image, {{.Size}} bytes" "$image"
