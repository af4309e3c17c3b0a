#!/usr/bin/env bash
# Starts the compose cluster, makes the transactions that the README shows against
# it - grpcurl only, the SDK, the CLI -, kills a node of each kind on the way, and
# takes the cluster down again. Then the same cluster starts over TLS. Every step
# that does not do what it should ends the script with an error.
set -euo pipefail
cd "$(dirname "$0")/.."

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose+=(-p oncelog-smoke -f deploy/compose.yaml)
certs=$(mktemp -d)
grpcurl=$(.ci/tool grpcurl)
coordinators=(127.0.0.1:7100 127.0.0.1:7110 127.0.0.1:7120)
partitions=(127.0.0.1:7200 127.0.0.1:7210 127.0.0.1:7220)
export ONCELOG_SERVERS=127.0.0.1:7100,127.0.0.1:7110,127.0.0.1:7120

say() { printf '\n== %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

finish() {
  status=$?
  if [ $status -ne 0 ]; then "${compose[@]}" logs --tail 30 || true; fi
  "${compose[@]}" down -v --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$certs"
  exit $status
}
trap finish EXIT

# call METHOD JSON ADDRESS...: asks each address until one answers. Only a
# leader does; the others say NOT_LEADER and name it.
call() {
  local method=$1 json=$2 address out
  shift 2
  for _ in $(seq 20); do
    for address in "$@"; do
      if out=$("$grpcurl" -plaintext -max-time 10 -d "$json" "$address" "oncelog.v1.$method" 2>&1); then
        printf '%s\n' "$out"
        return 0
      fi
      case $out in *NOT_LEADER*|*Unavailable*|*"connection refused"*|*"no such host"*|*"context deadline"*) ;; *) printf '%s\n' "$out" >&2; return 1 ;; esac
    done
    sleep 0.3
  done
  printf 'no node answers %s: %s\n' "$method" "$out" >&2
  return 1
}

# has PATTERN: whether it is in what is read. All of it is read: grep -q stops at the
# first match, and whoever is still writing then dies of the broken pipe, which counts.
has() { grep "$@" >/dev/null; }

# field NAME: the value of a field in JSON on standard input.
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\}.*/\1/p" | head -1; }

[ -x bin/oncelog ] || make -s build

up() {
  local healthy
  "${compose[@]}" up -d
  for _ in $(seq 120); do
    healthy=$(docker ps -q --filter label=com.docker.compose.project=oncelog-smoke --filter health=healthy | wc -l)
    [ "$healthy" -eq 6 ] && return
    sleep 0.5
  done
  die "only $healthy of 6 nodes are healthy"
}

say "image and cluster"
deploy/image.sh
up

say "a transaction with grpcurl only"
"$grpcurl" -plaintext "${coordinators[0]}" list | has oncelog.v1.TransactionService || die "reflection is off"
"$grpcurl" -plaintext "${coordinators[0]}" grpc.health.v1.Health/Check | has SERVING || die "health is off"
call CatalogService/CreateTopic '{"name":"orders"}' "${coordinators[@]}" | has '"ready": true' || die "the topic is not ready"
init=$(call TransactionService/InitProducer '{"transactional_id":"curl-1"}' "${coordinators[@]}")
pid=$(field producerId <<<"$init") token=$(field producerToken <<<"$init")
epoch=$(field epoch <<<"$init")
txn="{\"producer_id\":\"$pid\",\"epoch\":${epoch:-0},\"txn_number\":1}"
hello=$(printf hello | base64)
call LogService/Append "{\"txn\":$txn,\"producer_token\":\"$token\",\"partitions\":[
  {\"partition\":{\"topic\":\"orders\"},\"records\":{\"records\":[{\"value\":\"$hello\"}]}}]}" "${partitions[@]}" | has nextSequence || die "append"
fetch() { call LogService/Fetch "{\"partition\":{\"topic\":\"orders\"},\"isolation\":\"$1\"}" "${partitions[@]}"; }
fetch ISOLATION_LEVEL_READ_COMMITTED | has "$hello" && die "an open transaction is visible"
fetch ISOLATION_LEVEL_READ_UNCOMMITTED | has "$hello" || die "the record is not there"
call TransactionService/EndTransaction "{\"txn\":$txn,\"producer_token\":\"$token\",\"commit\":true,\"wait_applied\":true,\"partitions\":[
  {\"partition\":{\"topic\":\"orders\"},\"next_sequence\":\"1\"}]}" "${coordinators[@]}" | has COMMITTED || die "commit"
fetch ISOLATION_LEVEL_READ_COMMITTED | has "$hello" || die "a committed record is not visible"

say "the same with the SDK"
bin/oncelog topic create debits --partitions 3
bin/oncelog topic create credits --partitions 3
go run ./cmd/internal/first | has committed || die "the README's program"
[ "$(bin/oncelog consume debits | wc -l)" -eq 1 ] || die "the README's program wrote something else"

say "and with the CLI"
seq 1000 | bin/oncelog produce orders
[ "$(bin/oncelog consume orders | grep -c '^[0-9]*$')" -eq 1000 ] || die "produce and consume differ"
bin/oncelog txn list
bin/oncelog txn describe curl-1
bin/oncelog txn outcome "$pid/${epoch:-0}/1" | has -i committed || die "the outcome is not remembered"
bin/oncelog cluster status

say "a leader of each kind is killed; everything goes on"
coordinator=$(bin/oncelog cluster status -o json | field coordinator_leader)
partition=$(bin/oncelog topic describe orders | awk '$1 == "0" {print $4}')
for service in "coordinator-$coordinator" "partition-$partition"; do
  docker kill "$("${compose[@]}" ps -q "$service")" >/dev/null
done
seq 1001 2000 | bin/oncelog produce orders
[ "$(bin/oncelog consume orders | grep -c '^[0-9]*$')" -eq 2000 ] || die "records were lost"
go run ./cmd/internal/first | has committed || die "no transaction with two nodes down"

say "groups, members and retention"
bin/oncelog group reset-offsets smoke orders --to latest --yes
bin/oncelog group list | has '^smoke ' || die "the group is not listed"
bin/oncelog group describe smoke | has '^orders ' || die "the group has no position"
bin/oncelog group delete smoke --yes
[ "$(bin/oncelog coordinator list | grep -c ' voter ')" -eq 3 ] || die "the coordinators are not three"
[ "$(bin/oncelog node list | awk 'NR > 1' | wc -l)" -eq 3 ] || die "the nodes are not three"
bin/oncelog topic alter orders --retention-ms 3600000 | has '1h' || die "retention is not altered"
bin/oncelog topic trim orders --all --yes
[ "$(bin/oncelog consume orders | wc -l)" -eq 0 ] || die "records that were trimmed are read"

say "over TLS, with certificates that are made on the way"
"${compose[@]}" down -v --remove-orphans >/dev/null 2>&1
compose+=(-f deploy/compose.tls.yaml)
up
bin/oncelog cluster status --timeout 3s >/dev/null 2>&1 && die "it is served in plain text"
docker cp "$("${compose[@]}" ps -a -q cert-operator)":/data/. "$certs"
[ -e "$certs/ca.key" ] && die "the key that signs is handed out"
export ONCELOG_TLS_CA=$certs/ca.crt ONCELOG_TLS_CERT=$certs/operator.crt ONCELOG_TLS_KEY=$certs/operator.key
bin/oncelog topic create orders --partitions 3
seq 1000 | bin/oncelog produce orders --transactional-id smoke-tls
[ "$(bin/oncelog consume orders | wc -l)" -eq 1000 ] || die "produce and consume differ over TLS"
"${compose[@]}" up -d >/dev/null 2>&1 || die "certificates that are there are made again"

say "ok"
