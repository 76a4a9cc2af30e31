#!/usr/bin/env bash
# Compares the gateway with nginx as a plain TLS reverse proxy, with its own libraries as one ("plain"), and with no
# proxy at all, in front of the same server.
#
#   proxy/benches/gateway.sh [SECONDS] [ROUNDS]        default: 5 seconds per measurement, 3 rounds
#
# Each proxy is held to CPU 0; load and upstream share CPU 1. Measurements are interleaved, and medians of the rounds
# are compared. The gateway authenticates, decides, records durably (its log is in TMPDIR: put that on the disk you
# mean) and masks; nginx passes on. Needs nginx, taskset and awk. Trust ratios, not absolute figures.
set -euo pipefail
seconds=${1:-5} rounds=${2:-3}
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
cargo build --profile dist --quiet --workspace --example gateway_load
load="${CARGO_TARGET_DIR:-$root/target}/dist/examples/gateway_load"
dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT

upstream=127.0.0.1:18443 gateway=127.0.0.1:18444 nginx=127.0.0.1:18445 plain=127.0.0.1:18446
"$load" certificates "$dir"
mkdir "$dir/nginx"
cat > "$dir/nginx.conf" <<CONF
worker_processes 1; daemon off; master_process off; pid $dir/nginx/pid; error_log $dir/nginx/error.log;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path $dir/nginx; proxy_temp_path $dir/nginx; fastcgi_temp_path $dir/nginx;
  uwsgi_temp_path $dir/nginx; scgi_temp_path $dir/nginx;
  upstream api { server $upstream; keepalive 256; keepalive_requests 100000000; }
  server {
    listen $nginx ssl; ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem; ssl_protocols TLSv1.3;
    location / {
      proxy_pass https://api; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_ssl_verify on; proxy_ssl_trusted_certificate $dir/ca.pem; proxy_ssl_name localhost; proxy_ssl_protocols TLSv1.3;
    }
  }
}
CONF
taskset -c 1 "$load" upstream "$dir" $upstream & pids+=($!); upstream_pid=$!
taskset -c 0 nginx -c "$dir/nginx.conf" & pids+=($!); nginx_pid=$!
taskset -c 0 "$load" gateway "$dir" $gateway $upstream & pids+=($!); gateway_pid=$!
taskset -c 0 "$load" plain "$dir" $plain $upstream & pids+=($!); plain_pid=$!
for address in $upstream $nginx $gateway $plain; do
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null && break; sleep 0.1; done
done

echo "machine: $(nproc) CPUs, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), log on $(df --output=fstype "$dir" | tail -1)"
"$load" disk "$dir" | tee "$dir/disk.txt"
measure() { # name address pid connections
  local line
  line=$(taskset -c 1 "$load" drive "$dir" "$2" masked "$4" "$seconds" "$3")
  echo "$1 connections=$4 $line" | tee -a "$dir/results"
}
for round in $(seq "$rounds"); do
  echo "# round $round of $rounds: GET of a 2 KB pod"
  for connections in 1 64; do
    measure direct $upstream "$upstream_pid" "$connections"
    measure nginx $nginx "$nginx_pid" "$connections"
    measure plain $plain "$plain_pid" "$connections"
    measure gateway $gateway "$gateway_pid" "$connections"
  done
done
for round in $(seq "$rounds"); do
  echo "# round $round of $rounds: a list of secrets of 100 MB"
  for user in plain masked; do
    echo "list-$user $(taskset -c 1 "$load" fetch "$dir" $gateway "$user" "$gateway_pid")" | tee -a "$dir/results"
  done
done

median() { # name connections field
  { grep -E "^$1 (connections=$2 )?" "$dir/results" || true; } | grep -E "connections=$2 |^list" |
    grep -oE " $3=[0-9.]+" | cut -d= -f2 | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'
}
largest() { grep "^$1 " "$dir/results" | grep -oE " $2=[0-9.]+" | cut -d= -f2 | sort -n | tail -1; }
sync=$(grep -oE "fdatasync_p50_us=[0-9]+" "$dir/disk.txt" | cut -d= -f2)
verdict() { awk -v what="$1" -v value="$2" -v sign="$3" -v target="$4" 'BEGIN {
  ok = (sign == ">=") ? value >= target : value <= target
  printf "%-58s %8.2f   target %s %-8s %s\n", what, value, sign, target, ok ? "met" : "MISSED" }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.3f", a / b}'; }
echo "# medians of $rounds rounds"
verdict "64 connections: requests/s over nginx's" \
  "$(ratio "$(median gateway 64 requests_per_s)" "$(median nginx 64 requests_per_s)")" ">=" 0.5
verdict "64 connections: CPU per request over nginx's" \
  "$(ratio "$(median gateway 64 cpu_us_per_request)" "$(median nginx 64 cpu_us_per_request)")" "<=" 2
verdict "1 connection: p50 added to a direct request, us" \
  "$(($(median gateway 1 p50_us) - $(median direct 1 p50_us)))" "<=" "$((sync + 150))"
# By time: the list that is masked is the same, and shorter when it arrives.
verdict "100 MB of secrets: speed masked over passed through" \
  "$(ratio "$(median list-plain '[0-9]*' seconds)" "$(median list-masked '[0-9]*' seconds)")" ">=" 0.5
verdict "100 MB of secrets: growth of memory, MiB" "$(largest list-masked memory_growth_mib)" "<=" 32
