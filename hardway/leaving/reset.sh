# Runs as root on a host: `look` says what the kit and its daemons have there, `take` takes it away, what `look` knew last.
# Everything is below $HARDWAY_ROOT, which is empty but in tests.
set -eu
root=$HARDWAY_ROOT lib=$root/var/lib/hardway txn=$root/var/lib/hardway/txn run=$root/run/hardway
tab='	'
left() { printf 'left\t%s\n' "$*" 2>/dev/null || :; }

look() { # a trace on each line of $1: those that are there, after the files of ours, of which some may be gone
  [ ! -e "$lib" ] && [ ! -e "$run" ] || echo kit
  ours | while IFS= read -r path; do
    kind=gone; [ ! -e "$root$path" ] && [ ! -L "$root$path" ] || kind=file
    printf '%s\t%s\n' "$kind" "$path"
  done
  printf '%s\n' "$1" | while read -r kind name; do ! "has_$kind" "$name" || printf 'trace\t%s %s\n' "$kind" "$name"; done
}
ours() { # also what a push that died after its commit was about to put there
  {
    [ ! -e "$lib/managed" ] || cut -f1 "$lib/managed"
    [ ! -e "$txn/commit" ] || while IFS=$tab read -r _ _ _ after path; do [ "$after" = - ] || printf '%s\n' "$path"; done <"$txn/moves"
  } | sort -u
}

take() { # a trace, `unit NAME` or `file PATH` on each line of $1, in this order; what is gone already is no matter
  trap '' HUP INT TERM PIPE # what has begun is ended: half of it would be of no use to anybody
  failed=''
  while read -r kind name; do
    said=$("take_$kind" "$name" 2>&1) || said=${said:-it would not go}
    [ -z "$said" ] || { failed=yes; left "$kind $name: $(printf %s "$said" | tr '\n' ' ')"; }
  done <<end
$1
end
  systemctl daemon-reload >/dev/null 2>&1 || left 'systemd could not be told'
  [ -z "$failed" ] || return 0 # it is still known what is ours: the same again goes on
  staged
  for name in /run/hardway /var/lib/hardway; do said=$(take_directory "$name" 2>&1) || said="$name"; [ -z "$said" ] || left "$said"; done
}
staged() { # what a push that died before its commit has put beside our files
  [ -e "$txn/moves" ] || return 0
  while IFS=$tab read -r _ _ _ _ path; do rm -f -- "$root${path%/*}/.${path##*/}.hardway"; tidy "$path"; done <"$txn/moves"
}

take_unit() {
  systemctl disable "$1" >/dev/null 2>&1 || :
  systemctl stop "$1" >/dev/null 2>&1 || :
  case $(systemctl is-active "$1" 2>/dev/null) in active | activating | deactivating) echo 'it still runs' ;; esac
  systemctl reset-failed "$1" >/dev/null 2>&1 || :
}
take_file() {
  rm -f -- "$root$1"
  tidy "$1"
}
tidy() { # of a path that is gone, the directories that are empty now, but for the system's own
  at=${1%/*}
  while :; do
    case $at in
      '' | /etc | /etc/systemd/system | /opt | /run | /usr | /usr/libexec | /usr/local | /usr/local/bin | /usr/local/share) return ;;
      /var | /var/lib | /var/log) return ;;
    esac
    find "$root$at" -depth -type d -empty -delete 2>/dev/null || :
    [ ! -e "$root$at" ] || return 0
    at=${at%/*}
  done
}

has_processes() { [ -n "$(processes "$1")" ]; }
take_processes() { killed processes "$1"; }
processes() { # of a program of ours, also if another took its place since
  find "$root"/proc/[0-9]*/exe -maxdepth 0 \( -lname "/usr/local/bin/$1" -o -lname "/usr/local/bin/$1 (deleted)" \) -printf '%h\n' 2>/dev/null |
    sed 's|.*/||'
}
killed() { # a function that lists processes, and what it is called with; new ones may come while it goes
  for _ in $(seq 100); do
    alive=$("$@")
    [ -n "$alive" ] || return 0
    # shellcheck disable=SC2086 # numbers
    kill -KILL $alive 2>/dev/null || :
    sleep 0.1
  done
  echo "not ended by a kill: $alive"
}

has_groups() { [ -n "$(groups "$1")" ]; }
take_groups() {
  case $1 in *.slice) systemctl stop "$1" >/dev/null 2>&1 || : ;; esac
  killed members "$1"
  groups "$1" | while read -r group; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :; done
  ! has_groups "$1" || echo 'it is not empty'
}
groups() { find "$root/sys/fs/cgroup" -mindepth 1 -maxdepth 2 -type d -name "$1" 2>/dev/null || :; }
members() { groups "$1" | while read -r group; do find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || :; done | sort -u | sed '/^0$/d'; }

has_namespaces() { for one in "$root/run/netns/$1"*; do [ ! -e "$one" ] || return 0; done; return 1; }
take_namespaces() {
  for one in "$root/run/netns/$1"*; do
    [ -e "$one" ] || continue
    umount -- "$one" 2>/dev/null || umount -l -- "$one" 2>/dev/null || :
    rm -f -- "$one"
  done
  rmdir "$root/run/netns" 2>/dev/null || : # if nobody else has one
}

has_interface() { [ -e "$root/sys/class/net/$1" ]; }
take_interface() { # those of Pods may be going already, with their namespaces
  for port in "$root/sys/class/net/$1/brif/"*; do [ ! -e "$port" ] || ip link delete "${port##*/}" 2>/dev/null || :; done
  ! has_interface "$1" || ip link delete "$1"
}

# shellcheck disable=SC2086 # a family and a name
has_table() { nft list table $1 >/dev/null 2>&1; }
# shellcheck disable=SC2086
take_table() { ! has_table "$1" || nft delete table $1; }

has_chains() { for tool in iptables ip6tables; do ! $tool-save 2>/dev/null | grep "^:$1" >/dev/null || return 0; done; return 1; }
take_chains() { # first what leads there, then what they hold, then they; nothing else of those tables is touched
  for tool in iptables ip6tables; do
    saved=$($tool-save 2>/dev/null) || continue
    case $saved in *":$1"*) ;; *) continue ;; esac
    printf '%s\n' "$saved" | sed -nE "
      /^\*/{p;s/.*//;h;d}
      /^:$1/{s/^:([^ ]*).*/-F \1/p;s/^-F/-X/;H;d}
      /^-A $1/d
      /^-A .* -[jg] $1/{s/^-A/-D/p;d}
      /^COMMIT/{x;s/^\n//;/./p;x;p}" | $tool-restore --noflush
    case $($tool --version) in *nf_tables*) hollow $tool "$saved" "$1" ;; esac
  done
}
hollow() { # a tool, what was there before, and the chains that went: tables of nftables that it made for these chains and that hold nothing now
  family=ip; [ "$1" = iptables ] || family=ip6
  for table in $(printf '%s\n' "$2" | sed -n "/^\*/{s/^\*//;h;d};/^:$3/{x;/./p;s/.*//;x}"); do
    case $($1-save -t "$table" | sed '/^#/d;/^\*/d;/^COMMIT/d;/^:[A-Z]* ACCEPT /d') in
      '') ! nft list table "$family" "$table" >/dev/null 2>&1 || nft delete table "$family" "$table" ;;
    esac
  done
}

has_routes() { [ -n "$(ip -4 route show proto "$1" 2>/dev/null)" ]; }
take_routes() { ! has_routes "$1" || ip -4 route flush proto "$1"; }

has_user() { # made by our file for systemd-sysusers, and not by somebody else before that
  IFS=: read -r _ _ _ _ named _ 2>/dev/null <<end || return 1
$(getent passwd "$1")
end
  [ "$named" = "$1.service" ]
}
take_user() {
  ! has_user "$1" || userdel "$1"
  ! getent group "$1" >/dev/null || groupdel "$1"
}

has_directory() {
  [ -d "$root$1" ] || return 1
  ! stays "$1" || [ -n "$(find "$root$1/" -mindepth 1 -print -quit)" ]
}
stays() { [ -L "$root$1" ] || [ -n "$(mounted | grep -xF "$1")" ]; } # a place that somebody else has made for it
mounted() { while read -r _ _ _ _ at _; do printf '%b\n' "$at"; done <"$root/proc/self/mountinfo"; }
below() { # what is mounted below a directory, the deepest first
  real=$(readlink -f "$root$1"); real=${real#"$root"}
  mounted | while IFS= read -r at; do case $at in "$real"/*) printf '%s\n' "$at" ;; esac; done | sort -r
}
take_directory() { # never through a mount: a volume's data is not ours
  [ -d "$root$1" ] || return 0
  below "$1" | while IFS= read -r at; do
    timeout 10 umount -- "$root$at" 2>/dev/null || umount -l -- "$root$at" 2>/dev/null || :
  done
  still=$(below "$1" | tr '\n' ' ')
  [ -z "$still" ] || { echo "${still% } is mounted below it and cannot be unmounted"; return; }
  if stays "$1"; then find "$root$1/" -xdev -mindepth 1 -delete; else rm -rf --one-file-system -- "$root$1" && tidy "$1"; fi
}
"$@"
