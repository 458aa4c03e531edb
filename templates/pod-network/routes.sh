# The routes to the other nodes' Pods, and no others of ours; what is right already is not touched.
set -eu
wanted='{% for range, address in routes.items() %}
{{ range }} via {{ address }}{% endfor %}
'
printf %s "$wanted" | while read -r range via address; do
  [ -z "$range" ] || ip route replace "$range" "$via" "$address" proto {{ protocol }}
done
ip -4 route show proto {{ protocol }} | while read -r range rest; do
  case $wanted in
    *"
$range "*) ;;
    *) ip route del "$range" proto {{ protocol }} ;;
  esac
done
