#!/usr/bin/env bash
# Builds the image oncelog:dev from the files that git knows, by deploy/Dockerfile.
# Where its base image is not here and no registry can be reached, this machine's
# toolchain does what the Dockerfile's stage `build` says, in the same files, and the
# other stage is built from that.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-oncelog:dev}
go_image=${GO_IMAGE:-golang:1.26-bookworm}
built=oncelog-built:local

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
src=$context/src out=$context/root/out
mkdir -p "$src" "$out/data"

git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -C "$src" -x
(cd "$src" && GOFLAGS=-mod=mod go mod vendor)

if docker image inspect "$go_image" >/dev/null 2>&1 || timeout 60 docker pull -q "$go_image" >/dev/null 2>&1; then
  docker build -q -t "$image" --build-arg "GO_IMAGE=$go_image" -f deploy/Dockerfile "$src" >/dev/null
else
  echo "no registry in reach: compiling with the toolchain in $(go env GOROOT)"
  # The words of ENV, and of RUN without the program: ["/usr/local/go/bin/go", "build", ...].
  read -ra variables < <(sed -n 's/^ENV //p' deploy/Dockerfile)
  mapfile -t words < <(sed -n 's|^RUN \["/usr/local/go/bin/go", \(.*\)\]$|\1|p' deploy/Dockerfile | sed 's/^"//; s/"$//; s/", "/\n/g')
  [ "${words[0]:-}" = build ] || { echo "deploy/Dockerfile has no line RUN [\"/usr/local/go/bin/go\", \"build\", ...]" >&2; exit 1; }
  for i in "${!words[@]}"; do
    if [ "${words[$i]}" = /out/oncelog ]; then words[i]=$out/oncelog; fi
  done
  (cd "$src" && env GOOS=linux "${variables[@]}" go "${words[@]}")
  tar -C "$context/root" -c . | docker import - "$built" >/dev/null
  { sed -n '/^FROM scratch/,$p' deploy/Dockerfile | sed "s/--from=build /--from=$built /"; } >"$context/Dockerfile"
  mkdir "$context/empty"
  docker build -q -t "$image" -f "$context/Dockerfile" "$context/empty" >/dev/null
fi
docker image inspect -f "built $image, {{.Size}} bytes" "$image"
