# Gives the runtime the images that lie here, and takes away those that lay here before.
set -eu
ctr() { /usr/local/bin/ctr --namespace k8s.io "$@"; }
for archive in {{ directory }}/*.oci; do
  ctr images import "$archive"
done
for image in {{ references | join(" ") }}; do
  ctr images label "$image" {{ pinned }} >/dev/null
done
ctr images list --quiet | while read -r image; do
  case $image in
{%- for one in references %}
    {{ one }}) ;;
{%- endfor %}
    hardway.local/*) ctr images remove "$image" ;;
  esac
done
