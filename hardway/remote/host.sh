# Runs as root on a host, in any POSIX sh; the request follows it on standard input.
# $0 is the nonce that marks the end of the reply, $2 the root of the file system (empty but in tests).
set -eu
umask 077
nonce=$0 root=$2 HARDWAY_ROOT=$2 LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HARDWAY_ROOT LC_ALL PATH
lib=$root/var/lib/hardway run=$root/run/hardway txn=$root/var/lib/hardway/txn
tab='	'

# A reply that nobody reads any more stops nothing.
say() { printf "$@" 2>/dev/null || :; }
trap 'say "end %s %s\n" "$nonce" "$?"' EXIT
die() { say 'fail\t%s\n' "$*"; exit 65; }
sum() {
  [ -e "$1" ] || { echo -; return; }
  [ -f "$1" ] || { echo special; return; }
  digest=$(sha256sum <"$1"); echo "${digest%% *}"
}
# Device, inode, size, mtime and ctime: while they stay, so does the content.
keys() { xargs -0r stat -L --printf '%F\t%n\t%d:%i:%s:%.9Y:%.9Z\t%a\t%U:%G\n' -- 2>/dev/null | sed -n "s/^regular[^$tab]*$tab//p"; }
beside() { staged=$root${1%/*}/.${1##*/}.hardway; }

observe() { # verify, bytes of paths, of units, of what else is asked. Changes nothing on the host.
  now=$({ head -c "$2"; ! ours=$(cut -f1 "$lib/managed" 2>/dev/null) || printf '%s\n' "$ours" | tr '\n' '\0'; } |
    sort -zu | sed -z "s|^|$root|" | keys)
  units=$(head -c "$3" | tr '\0' ' ') asked=$(head -c "$4") clock=$(date +%s.%N)
  # A process costs a millisecond or more, so the shell reads and cuts what it can.
  systemd=$(systemctl --version) systemd=${systemd#systemd } free=$(df -B1 --output=avail "$root/var/lib") mtu=''
  read -r boot_id </proc/sys/kernel/random/boot_id
  while read -r name memory _ && [ "$name" != MemTotal: ]; do :; done </proc/meminfo
  mtu || :
  say 'fact\t%s\t%s\n' arch "$(uname -m)" clock "$clock" boot_id "$boot_id" cgroup "$(stat -fc %T /sys/fs/cgroup)" \
    systemd "${systemd%%[!0-9]*}" disk_free "${free##*[!0-9]}" memory "$memory" mtu "$mtu"
  [ ! -e "$root/run/systemd/container" ] || say 'fact\t%s\t%s\n' container "$(cat "$root/run/systemd/container")"
  # Where /etc/resolv.conf names but systemd-resolved's stub, which no Pod reaches, resolved's own file names whom that asks.
  resolved=/run/systemd/resolve/resolv.conf
  [ ! -e "$root$resolved" ] || ! grep -qs '^nameserver[[:blank:]]*127\.0\.0\.53' "$root/etc/resolv.conf" ||
    say 'fact\t%s\t%s\n' resolv_conf "$resolved"
  [ -z "$now" ] || printf '%s\n' "$now" | sed 's/^/now\t/'
  [ ! -e "$lib/managed" ] || sed 's/^/managed\t/' "$lib/managed"
  # What is not remembered by this very path and stat is hashed: a remembered line comes twice or thrice, a new one once.
  { [ "$1" = verify ] || { remembered; remembered; }; [ -z "$now" ] || printf '%s\n' "$now" | cut -f1,2; } | sort | uniq -u |
    cut -f1 | tr '\n' '\0' | xargs -0r sha256sum -- | sed "s/^\([0-9a-f]*\)  /sum\t\1\t/"
  for blob in "$lib/store/"*; do [ ! -e "$blob" ] || say 'stored\t%s\n' "${blob##*/}"; done
  # What can still go back was never proved: that outlives a power cut, /run does not.
  for unit in "$run/owed/"* "$lib/back/"*; do [ ! -e "$unit" ] || say 'owed\t%s\n' "${unit##*/}"; done
  [ ! -e "$lib/restoring" ] || say 'restoring\t%s\n' "$(cat "$lib/restoring")"
  [ ! -e "$txn/commit" ] || echo died
  shown=
  [ -z "$units" ] || shown=$(systemctl show -p LoadState,ActiveState,SubState,UnitFileState,InvocationID,NRestarts,ActiveEnterTimestamp \
    -- $units | sed 's/^/unit\t/')
  [ -z "$shown" ] || printf '%s\n' "$shown"
  [ -z "$asked" ] || ground
}
mtu() { # of the interface that the default route leaves by
  while read -r device to _ _ _ _ _ mask _; do
    [ "$to$mask" != 0000000000000000 ] || { read -r mtu <"$root/sys/class/net/$device/mtu"; return; }
  done 2>/dev/null <"$root/proc/net/route" || :
}
ground() { # what an installation would stand on. A command costs milliseconds, so there are few
  proc=$root/proc ports='' modules='' files='' hostname='' release=''
  for word in $asked; do
    what=${word#*=}
    case $word in
      program=*) ! command -v "$what" >/dev/null || say 'program\t%s\n' "$what" ;;
      module=*) ! loaded "$what" && modules="$modules $what" || say 'module\t%s\n' "$what" ;;
      setting=*) files="$files $proc/sys/$what"; [ ! -w "$proc/sys/$what" ] || say 'writable\t%s\n' "$what" ;;
      port=*) ports=${ports:+$ports|}$what ;;
      certificate=*) say 'certificate\t%s\t%s\n' "$what" "$(sed -n '/^-----BEGIN CERT/,/^-----END/{/^-/!p;/^-----END/q}' \
        "$root$what" 2>/dev/null | tr -d '\n')" ;;
      name=*) ! resolves "$what" || say 'name\t%s\n' "$what" ;;
      path=*) for at in "$root$what" "$root$what/"* "$root$what/".[!.]*; do
        { [ -d "$at" ] && [ "$at" = "$root$what" ]; } || [ ! -e "$at" ] || { say 'path\t%s\n' "$what"; break; }
      done ;;
    esac
  done
  { read -r hostname <"$proc/sys/kernel/hostname"; read -r release <"$proc/sys/kernel/osrelease"; } 2>/dev/null || :
  [ -z "$hostname" ] || ! resolves "$hostname" || say 'name\t%s\n' "$hostname"
  case $shown in *ActiveState=[!a]* | *ActiveState=activ[!e]*) # where all our units run, there is nothing to be found out by this
    [ -z "$modules" ] || installed
    [ -z "$ports" ] || listeners ;;
  esac
  say 'files\n'
  # shellcheck disable=SC2086 # settings are words
  grep -Hs '' "$proc/self/status" "$proc/sys/kernel/osrelease" "$proc/sys/kernel/hostname" "$proc/swaps" "$proc/cgroups" \
    "$proc/filesystems" "$proc/net/route" "$proc/net/fib_trie" "$root/sys/fs/cgroup/cgroup.controllers" \
    "$root/etc/machine-id" "$root/sys/class/dmi/id/product_uuid" $files || :
}
resolves() {
  while read -r address names; do
    for name in $names; do [ "$name" != "$1" ] || [ "${address#\#}" != "$address" ] || return 0; done
  done 2>/dev/null <"$root/etc/hosts" || :
  timeout 2 getent ahostsv4 "$1" >/dev/null 2>&1 </dev/null
}
loaded() { # a module that is built in may show only by what it does
  [ ! -e "$root/sys/module/$1" ] || return 0
  case $1 in
    br_netfilter) [ -e "$proc/sys/net/bridge" ] ;;
    nf_conntrack) [ -e "$proc/sys/net/netfilter/nf_conntrack_max" ] ;;
    *) return 1 ;;
  esac
}
installed() { # built in or there to be loaded; in a container, where no file says so, nftables are asked, by rules that are not kept
  tree=$root/lib/modules/$release
  if [ -e "$tree" ]; then
    for module in $modules; do ! grep -qs "/$module\.ko" "$tree/modules.builtin" "$tree/modules.dep" || say 'module\t%s\n' "$module"; done
    return
  fi
  case $modules in *nf_tables*) ;; *) return 0 ;; esac
  ! command -v nft >/dev/null || nft -c 'add table ip hardway-preflight
    add chain ip hardway-preflight x { type nat hook postrouting priority 0; }
    add rule ip hardway-preflight x fib daddr type local numgen random mod 2 0 masquerade' >/dev/null 2>&1 </dev/null || return 0
  for module in $modules; do
    case $module in nf_tables | nft_*) say 'module\t%s\n' "$module" ;; esac
  done
}
listeners() { # and who they are
  held=$(sed -nE "s/^ *[0-9]+: [0-9A-F]+:($ports) [0-9A-F:]+ 0A ([^ ]+ +){5}([0-9]+) .*/\1 \3/p" "$proc/net/tcp" "$proc/net/tcp6" 2>/dev/null) || :
  [ -n "$held" ] || return 0
  which=''
  # shellcheck disable=SC2086 # words, two by two
  set -- $held
  while [ $# -gt 0 ]; do say 'listener\t%s\t%s\n' "$1" "$2"; which="$which $2"; shift 2; done
  set -- -name none
  for inode in $which; do set -- "$@" -o -lname "socket:?$inode?"; done
  find "$proc/"[0-9]*/fd \( "$@" \) -printf '%p %l\n' 2>/dev/null | while read -r at inode; do
    at=${at%/fd/*} inode=${inode#*:?} program=''
    read -r program 2>/dev/null <"$at/comm" || :
    unit=$(sed -n 's|.*/\([^/]*\.service\).*|\1|p' "$at/cgroup" 2>/dev/null | tail -n 1)
    say 'holder\t%s\t%s\t%s\t%s\n' "${inode%?}" "${at##*/}" "$unit" "$program"
  done
}
# A change within the clock's last tick would not show: what changed less than two seconds ago is hashed again.
remembered() {
  [ -e "$lib/managed" ] || return 0
  while IFS=$tab read -r path key digest; do
    changed=${key##*:}
    [ "$((${changed%.*} + 2))" -ge "${clock%.*}" ] || printf '%s%s\t%s\n' "$root" "$path" "$key"
  done <"$lib/managed"
}

store() { # then for each blob a line with digest and size, and its bytes; the line `end` is the last
  mkdir -p "$lib/store"
  find "$lib/store" -name '.*.new' -mmin +60 -delete
  while read -r sha size && [ "$sha" != end ]; do
    new=$lib/store/.$sha.$$.new
    got=$(head -c "$size" | tee -- "$new" 2>/dev/null | sha256sum) || :
    have=$(stat -c %s "$new" 2>/dev/null) || have=0
    if [ "${got%% *}" != "$sha" ] || [ "$have" != "$size" ]; then
      rm -f "$new"
      [ "${got%% *}" = "$sha" ] || die "a binary was cut short or damaged on the way"
      die "no space for a binary of $size bytes: $(df -h --output=avail "$lib" | sed 1d) free in $lib"
    fi
    # Not synced: apply looks at the digest again, and syncs what it links.
    mv -fT "$new" "$lib/store/$sha"; say 'stored\t%s\n' "$sha"
  done
  [ "${sha:-}" = end ] || die "a binary was cut short or damaged on the way"
}

apply() { # bytes of a tar: host.sh, new/<sha256>..., owed, actions, moves
  [ ! -e "$txn/commit" ] || finish
  if [ -n "${broken:-}" ] && [ -e "$lib/back/$broken" ]; then go_back "$broken"; exit 65; fi
  discard
  mkdir -p "$txn/new" "$run/owed"
  head -c "$1" | tar -xf - -C "$txn" --no-same-owner 2>/dev/null || abort "the request was cut short, or there is no space in $lib"
  [ -e "$txn/moves" ] || abort "the request was cut short"
  for new in "$txn/new/"*; do
    [ ! -e "$new" ] || [ "$(sum "$new")" = "${new##*/}" ] || abort "the request was damaged on the way"
  done
  while IFS=$tab read -r mode owner before after path; do # compare and swap: the host is still as planned
    is=$(sum "$root$path")
    [ "$is" != special ] || abort "$path is in the way: no regular file"
    [ "$is" = "$before" ] || abort "$path changed since the plan"
  done <"$txn/moves"
  keep
  stage
  commit
  [ -z "$broken" ] || { go_back "$broken"; exit 65; }
}
commit() {
  find "$txn" -exec sync -- {} +; : >"$txn/commit"; sync -- "$txn/commit" "$txn"
  finish
}
abort() { discard; die "$*"; }
discard() { # of a request before its commit, nothing stays
  if [ -e "$txn/moves" ]; then
    while IFS=$tab read -r mode owner before after path; do beside "$path"; rm -f -- "$staged"; done <"$txn/moves"
  fi
  rm -rf "$txn"
}
keep() { # the way back of a unit that runs and is to be restarted, until it is proved: copies, since a second link would hide a rename
  read -r verb unit <<END
$(sed -nE '/^(start|restart|restart-no-block|reload) /{p;q}' "$txn/actions")
END
  if [ -z "$unit" ] || [ ! -s "$txn/moves" ]; then return 0; fi
  case $verb in
    start) [ -e "$lib/back/$unit" ] || return 0 ;; # it does not run, and did not when it was last proved
    restart-no-block) echo "$unit" >"$txn/forget"; return 0 ;;
  esac
  mkdir "$txn/back" "$txn/back/old"
  # What was never proved is nothing to go back to; what was there before it is.
  if [ -e "$lib/back/$unit" ]; then cp -R -- "$lib/back/$unit/." "$txn/back"; fi
  while IFS=$tab read -r mode owner before after path; do
    was=-$tab-
    if [ "$before" != - ]; then
      was=$(stat -L -c "%a$tab%U:%G" -- "$root$path")
      [ -e "$lib/store/$before" ] || cp -- "$root$path" "$txn/back/old/$before" || abort "no space in $lib to keep $path"
    fi
    printf '%s\t%s\t%s\n' "$was" "$before" "$path" >&3
  done <"$txn/moves" 3>>"$txn/back/rows"
  case $verb in reload) verb=reload-or-restart ;; *) verb=restart ;; esac
  echo "$verb $unit" >"$txn/back/action"
}
stage() { # all that can fail, such as a full disk or an unknown user, fails here, beside the old files
  while IFS=$tab read -r mode owner before after path; do
    [ "$after" != - ] || continue
    new=$txn/new/$after; at=$root$path; beside "$path"
    case $path in /etc/sysusers.d/*) systemd-sysusers "$new" >/dev/null || abort "systemd-sysusers refuses $path" ;; esac
    (umask 022; mkdir -p -- "${at%/*}") || abort "no directory for $path"
    if [ -e "$new" ]; then cp -- "$new" "$staged" || abort "cannot write $path"; else blob "$after"; fi
    chown -- "$owner" "$staged" || abort "cannot give $path to $owner"
    chmod -- "$mode" "$staged"; sync -- "$staged"
  done <"$txn/moves"
}
blob() { # one link beside the store's own, so that its mode, owner and ctime are that file's alone; else a copy
  blob=$lib/store/$1
  [ -e "$blob" ] || abort "the store has no $1"
  [ "$(sum "$blob")" = "$1" ] || { rm -f "$blob"; abort "the store's copy for $path was damaged and is gone"; }
  if [ "$(stat -c %h "$blob")" = 1 ] && ln -- "$blob" "$staged" 2>/dev/null; then return; fi
  cp -- "$blob" "$staged" || abort "cannot write $path"
}
finish() { # every line can run twice; only a kill or a power cut stops it, and then observe says that it died
  trap '' HUP INT TERM PIPE
  mkdir -p "$run/owed"; reload='' broken=''
  while read -r unit; do : >"$run/owed/$unit"; done <"$txn/owed"
  while read -r verb unit; do
    case $verb in stop | disable) systemctl "$verb" "$unit" >/dev/null 2>&1 || : ;; esac
  done <"$txn/actions"
  while IFS=$tab read -r mode owner before after path; do
    at=$root$path; beside "$path"
    if [ "$after" = - ]; then rm -f -- "$at"; elif [ -e "$staged" ]; then mv -fT -- "$staged" "$at"; fi
    [ ! -d "${at%/*}" ] || sync -- "${at%/*}"
    case $path in */systemd/system/*) reload=yes ;; esac
  done <"$txn/moves"
  remember
  [ -z "$reload" ] || systemctl daemon-reload
  exchange
  while read -r verb unit; do
    case $verb in
      stop | disable) continue ;;
      restart-no-block) set -- restart --no-block "$unit" ;;
      start | restart | reload) set -- "$verb" "$unit"; [ -z "${booting:-}" ] || set -- start --no-block "$unit" ;;
      *) set -- "$verb" "$unit" ;;
    esac
    why=$(systemctl "$@" 2>&1) || { failed "$unit" "$verb failed: $(printf %s "$why" | tr '\n' ' ')"; break; }
  done <"$txn/actions"
  rm -f "$txn/commit"; rm -rf "$txn" # in this order: without its mark, what is left of it is nothing
}
exchange() { # the way back for the one of this change
  [ ! -e "$txn/forget" ] || rm -rf "$lib/back/$(cat "$txn/forget")"
  [ -e "$txn/back" ] || return 0
  read -r verb unit <"$txn/back/action"
  mkdir -p "$lib/back"; rm -rf "$lib/back/$unit"; mv -T "$txn/back" "$lib/back/$unit"
}
failed() { # its restart stays owed
  broken=$1
  say 'fail\t%s: %s\n' "$1" "$2"
  journal "$1"
}
journal() { journalctl -u "$1" -n 10 -o cat --no-pager 2>/dev/null | sed "s/^/fail\t$1: | /" || :; }
go_back() { # a unit, to the files that it was proved with, if they were kept. A change as any other, so that a kill finishes it too
  back=$lib/back/$1 unit=$1
  [ -e "$back" ] || return 0
  discard
  mkdir "$txn" "$txn/new"
  for old in "$back/old/"*; do
    [ ! -e "$old" ] || [ "$(sum "$old")" = "${old##*/}" ] || abort "what was kept of the files before was damaged"
    [ ! -e "$old" ] || cp -- "$old" "$txn/new" || abort "no space in $lib to go back"
  done
  sort -s -u -t"$tab" -k4,4 "$back/rows" | while IFS=$tab read -r mode owner was path; do
    printf '%s\t%s\t%s\t%s\t%s\n' "$mode" "$owner" "$(sum "$root$path")" "$was" "$path"
  done >"$txn/moves"
  echo "$unit" | tee -- "$txn/forget" >"$txn/owed"
  cp -- "$back/action" "$txn/actions"
  stage
  commit
  say 'back\t%s\n' "$unit"
}
remember() { # which paths are ours, and by which stat their content is known again: after mv, which sets ctime
  {
    while IFS=$tab read -r mode owner before after path; do
      key=-; [ "$after" = - ] || key=$(stat -L -c %d:%i:%s:%.9Y:%.9Z "$root$path")
      printf '%s\t%s\t%s\n' "$path" "$key" "$after"
    done <"$txn/moves"
    cat "$lib/managed" 2>/dev/null || :
  } | sort -s -u -t"$tab" -k1,1 | sed "/$tab-\$/d" >"$lib/managed.new"
  mv -fT "$lib/managed.new" "$lib/managed"
}
settle() { # seconds, bytes of units whose gates have passed: those that stay up so long are owed nothing more, and have no way back
  for unit in $(head -c "$2" | tr '\0' ' '); do
    steady "$unit" "$1" || { failed "$unit" "it does not stay up: it is $now, and systemd has restarted it $times times"; go_back "$unit"; exit 65; }
    rm -f "$run/owed/$unit"; rm -rf "$lib/back/$unit"
    [ -d "$lib/proved" ] || mkdir -p "$lib/proved"
    : >"$lib/proved/$unit"
  done
}
steady() { # a daemon that ends again and again is up, whenever it is asked, for a moment
  for _ in $(seq 75); do
    now='' times='' since=0
    for word in $(systemctl show -p ActiveState,NRestarts,ActiveEnterTimestampMonotonic -- "$1"); do
      case $word in
        ActiveState=*) now=${word#*=} ;; NRestarts=*) times=${word#*=} ;; ActiveEnterTimestampMonotonic=*) since=${word#*=} ;;
      esac
    done
    read -r up _ </proc/uptime
    case $now in
      active | reloading) [ "$((${up%.*}${up#*.} - since / 10000))" -lt "$(($2 * 100))" ] || return 0 ;; # in hundredths of a second
      failed) return 1 ;;
    esac
    sleep 0.2
  done
  return 1
}
retract() { # bytes of a unit whose gate stayed closed
  unit=$(head -c "$1")
  [ ! -e "$txn/commit" ] || finish
  journal "$unit"; go_back "$unit"
}
pause() { # bytes of a unit. From one byte on its main process stands still, to the next or the end of the connection; a second at most
  pid=$(systemctl show -p MainPID -- "$(head -c "$1")" | sed -n 's/^MainPID=//p')
  [ "$(timeout 10 head -c1)" = . ] || return 0
  [ "${pid:-0}" -gt 1 ] || { say 'paused\n'; return 0; } # it does not run
  trap '' HUP INT TERM PIPE
  { sleep 1; kill -CONT "$pid"; } >/dev/null 2>&1 </dev/null & # whatever becomes of this shell
  kill -STOP "$pid" || :
  say 'paused\n'
  head -c1 >/dev/null
  kill -CONT "$pid" || :
}
boot() { # after a power cut, before anything of ours starts
  booting=yes
  [ ! -e "$txn/commit" ] || finish
}

read_files() { # bytes of paths
  head -c "$1" | tr '\0' '\n' | while read -r path; do
    [ ! -f "$root$path" ] || say 'text\t%s\t%s\n' "$path" "$(base64 -w0 <"$root$path")"
  done
}
run() { # bytes of a quoted command: its output, a line with the nonce, what it said on standard error
  command=$(head -c "$1"); code=0; exec 3>&1
  said=$(eval "$command" 2>&1 >&3 3>&- </dev/null) || code=$?
  say '\nsaid %s %s\n%s\n' "$nonce" "$code" "$said"
}
lock() { # seconds of silence that end it, bytes of who holds it; heartbeats follow
  who=$(head -c "$2"); mkdir -p "$run"
  exec 9>>"$run/lock"
  flock -n 9 || { say 'held\t%s\n' "$(cat "$run/lock.who" 2>/dev/null)"; exit 75; }
  printf '%s since %s' "$who" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$run/lock.who"
  say 'locked\n'
  while [ "$(timeout "$1" head -c1 9>&-)" = . ]; do :; done
}

IFS=' ' read -r request arguments
# shellcheck disable=SC2086 # the arguments are words
"$request" $arguments
