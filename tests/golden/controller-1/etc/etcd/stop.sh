# A member that stops lets what was asked come to its end, and waits seven seconds for the watches of the API servers, which have none.
# So they are cut after two, as etcd does after seven; an API server goes on watching at another member.
# https://github.com/etcd-io/etcd/blob/v3.7.3/server/embed/etcd.go: stopServers; server/config/config.go: ReqTimeout
set -eu
[ -n "${MAINPID:-}" ] || exit 0 # it has ended by itself
kill -TERM "$MAINPID"
for _ in $(seq 40); do
  kill -0 "$MAINPID" 2>/dev/null || exit 0
  sleep 0.05
done
echo "cut $(ss -K -Htn sport = :2379 | wc -l) connections of clients"
