# Runs as root on a controller, one function a call; $1 names it. Everything is below $HARDWAY_ROOT, which is empty but in tests.
# A member's data is $data/member. Beside it, on the same file system, so that each step is a rename:
#   restored-ID  what becomes the member, made whole while the old one still serves
#   before-ID    the old one, kept
set -eu
umask 077
lib=$HARDWAY_ROOT/var/lib/hardway data=$HARDWAY_ROOT/var/lib/etcd pki=/etc/etcd/pki
die() { echo "$*" >&2; exit 1; }
quiet() { said=$("$@" 2>&1) || die "$(printf '%s\n' "$said" | tail -n 1)"; }

save() { # endpoint: the snapshot on standard output, what etcdutl finds in it on standard error; nothing stays
  at=$lib/snapshot
  rm -rf "$at"; mkdir -p "$at"
  trap 'rm -rf "$at"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  quiet etcdctl --endpoints="$1" --cacert=$pki/ca.crt --cert=$pki/etcdctl.pem --key=$pki/etcdctl.pem snapshot save "$at/db"
  etcdutl snapshot status -w json "$at/db" >"$at/status" 2>"$at/said" || die "$(tail -n 1 "$at/said")"
  cat "$at/status" >&2
  cat "$at/db"
}
# The same of a snapshot that was sent, by its digest; of the member itself, while it does not run.
check() { etcdutl snapshot status -w json "$lib/store/$1"; }
revision() { # timeout: etcdutl waits for a member that runs, for ever
  [ ! -e "$data/member/snap/db" ] || timeout 10 etcdutl snapshot status -w json "$data/member/snap/db" 2>/dev/null || :
}

stage() { # id, digest, name, peer URL, initial cluster, revisions to skip: all that can fail does so here, before anything stops
  [ "$(stands "$1")" = nowhere ] || return 0
  for old in "$data"/restored-*; do rm -rf "$old"; done # of attempts that were never begun
  new=$data/restored-$1.part
  # A token of its own: a member with old data is refused by the new ones, so the two never mix.
  quiet etcdutl snapshot restore "$lib/store/$2" --data-dir "$new" --name "$3" --initial-advertise-peer-urls "$4" \
    --initial-cluster "$5" --initial-cluster-token "restored-$1" --bump-revision "$6" --mark-compacted
  chown -R etcd:etcd "$new"; chmod 0700 "$new" "$new/member"
  sync -f "$new"; mv -T "$new" "$data/restored-$1"
}
unstage() { rm -rf "$data/restored-$1" "$data/restored-$1.part" "$lib/store/$2"; } # id, digest
mark() { # id, digest, revisions to skip, name: until `unmark` a push refuses this host, and a status tells
  printf '%s %s %s %s\n' "$@" >"$lib/restoring.new"
  sync "$lib/restoring.new"; mv -T "$lib/restoring.new" "$lib/restoring"; sync "$lib"
}
unmark() { rm -rf "$data/restored-$1" "$lib/store/$2" "$lib/restoring" "$lib/rejoining"; } # id, digest
stands() { # id: how far this member has come
  if [ -e "$data/restored-$1/member" ]; then [ -e "$data/before-$1" ] && echo between || echo staged
  elif [ -e "$data/before-$1" ]; then echo swapped
  else echo nowhere; fi
}
stopped() {
  case $(systemctl is-active etcd.service) in inactive | failed) ;; *) die "etcd still runs" ;; esac
}
swap() { # id; every line can run twice
  stopped
  [ -e "$data/restored-$1/member" ] || return 0
  aside "$1"
  mv -T "$data/restored-$1/member" "$data/member"; sync -f "$data"
}
aside() { # id: what the member has is kept
  mkdir -p "$data/before-$1"; chown etcd:etcd "$data/before-$1"
  if [ -e "$data/member" ]; then
    old=$data/before-$1/member
    [ ! -e "$old" ] || old=$old.$(date +%s) # a reboot in between has made another
    mv -T "$data/member" "$old"
  fi
}
back() { # id: the old data again, and nothing of the new; every line can run twice
  stopped
  if [ -e "$data/before-$1" ]; then
    if [ ! -e "$data/restored-$1/member" ] && [ -e "$data/member" ]; then
      mkdir -p "$data/restored-$1"; mv -T "$data/member" "$data/restored-$1/member"
    fi
    [ ! -e "$data/before-$1/member" ] || mv -T "$data/before-$1/member" "$data/member"
    rmdir "$data/before-$1"
  fi
  rm -rf "$data/restored-$1"; sync -f "$data"
}

# A member that comes back while the others serve.
holds() { [ ! -e "$data/member/wal" ] || echo data; } # a member that may not begin makes all but its log
begun() { cat "$lib/rejoining" 2>/dev/null || :; }
begin() { # id, under which old data is kept: noted from before the first change until a member has joined
  mkdir -p "$lib"
  echo "$1" >"$lib/rejoining.new"; sync "$lib/rejoining.new"; mv -T "$lib/rejoining.new" "$lib/rejoining"; sync "$lib"
}
over() { joined; rm -f "$lib/rejoining"; }
leave() { # id: the member stops, and what it has is kept; tells if there was something
  systemctl stop etcd.service; stopped; joined
  [ -e "$data/member" ] || return 0
  aside "$1"; sync -f "$data"; echo kept
}
drop_in=$HARDWAY_ROOT/run/systemd/system/etcd.service.d
join() { # once, into a cluster that there is: a member that joins waits until it has the data, and takes that as long as it may
  mkdir -p "$drop_in"
  echo ETCD_INITIAL_CLUSTER_STATE=existing >"$drop_in/rejoin.env"
  # The later file counts: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=
  # It goes as soon as the member has joined: one that lost its data again must not begin with `existing`, as if it had never voted.
  cat >"$drop_in/rejoin.conf" <<END
[Service]
EnvironmentFile=-$drop_in/rejoin.env
TimeoutStartSec=infinity
ExecStartPost=+/bin/rm -f $drop_in/rejoin.env
END
  systemctl daemon-reload
  systemctl restart --no-block etcd.service
}
joined() {
  rm -f "$drop_in/rejoin.env" "$drop_in/rejoin.conf"
  rmdir "$drop_in" 2>/dev/null || : # the host's own, if it has others in it
  systemctl daemon-reload
}
resume() { systemctl start --no-block etcd.service; }
state() { systemctl is-active etcd.service || :; }
"$@"
