# Gives the runtime the images that lie here, and takes away those that lay here before.
set -eu
ctr() { /usr/local/bin/ctr --namespace k8s.io "$@"; }
for archive in /usr/local/share/kubernetes/images/*.oci; do
  ctr images import "$archive"
done
for image in hardway.local/pause:3.10.2 hardway.local/coredns:1.15.0 hardway.local/metrics-server:0.9.0 hardway.local/agnhost:2.66.1; do
  ctr images label "$image" io.cri-containerd.pinned=pinned >/dev/null
done
ctr images list --quiet | while read -r image; do
  case $image in
    hardway.local/pause:3.10.2) ;;
    hardway.local/coredns:1.15.0) ;;
    hardway.local/metrics-server:0.9.0) ;;
    hardway.local/agnhost:2.66.1) ;;
    hardway.local/*) ctr images remove "$image" ;;
  esac
done
