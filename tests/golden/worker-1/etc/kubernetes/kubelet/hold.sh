# Who calls the kubelet waits while it or the runtime behind it restarts, and is not refused: TCP asks again for what got no answer.
# $1 is what waits, `new` connections or `all` that comes, and $2 for how long at most. Without them nothing waits any more, once the
# kubelet has its runtime again: where it has called in vain it calls again after a while, and has nothing but errors to tell until then.
set -eu
hold() {
  nft -f - <<END
table ip hardway-kubelet
delete table ip hardway-kubelet
table ip hardway-kubelet {
  set held { type inet_service; flags timeout; elements = { 10250 timeout $2 }; }
  chain input {
    type filter hook input priority filter;
    tcp dport @held $1 drop
  }
}
END
}
drained() { ! grep -q ' 0100007F:271A [^ ]* 01 ' /proc/net/tcp; } # no exec, attach or port-forward is under way
reached() { grep -q ' 03 *[0-9]* /run/containerd/containerd.sock$' /proc/net/unix; } # somebody has a connection to the runtime, and that is the kubelet
until_so() { # what has to be so, and looks of a twentieth of a second
  for _ in $(seq "$2"); do
    ! "$1" || break
    sleep 0.05
  done
}

if [ $# = 0 ]; then
  ! nft list table ip hardway-kubelet >/dev/null 2>&1 || until_so reached 40 # else nobody waits
  nft 'table ip hardway-kubelet; delete table ip hardway-kubelet'
  exit
fi
hold 'tcp flags & (syn | ack) == syn' "$2"
until_so drained 20
[ "$1" = new ] || hold '' "$2"
