#!/bin/bash
# Layers with curl, a hash and igzip, two at a time, as a careful shell script would.
# Usage: pipeline.sh OUTPUT LAYERS NETRC CA HASH PACK
#   LAYERS: lines of URL, digest, diff_id.  HASH: a command that prints the sha256 of its stdin first or last.
#   PACK: `pack` puts the layers into a tar at the end, as an archive needs it.
set -euo pipefail
export OUTPUT=$1 NETRC=$3 CA=$4 HASH=$5
one() {
  local url=$1 digest=$2 diff_id=$3 to=$OUTPUT/${2#sha256:}
  mkfifo "$to.stored" "$to.inflated"
  $HASH < "$to.stored" > "$to.stored.sum" & local stored=$!
  $HASH < "$to.inflated" > "$to.inflated.sum" & local inflated=$!
  curl --fail --silent --show-error --location --netrc-file "$NETRC" --cacert "$CA" "$url" \
    | tee "$to.stored" | igzip -dc | tee "$to.inflated" > "$to.tar"
  wait $stored $inflated
  grep -q "${digest#sha256:}" "$to.stored.sum"
  grep -q "${diff_id#sha256:}" "$to.inflated.sum"
  rm "$to.stored" "$to.inflated" "$to.stored.sum" "$to.inflated.sum"
}
export -f one
xargs -P 2 -L 1 bash -euo pipefail -c 'one "$@"' one < "$2"
if [ "$6" = pack ]; then
  cd "$OUTPUT"
  echo '[]' > manifest.json
  tar --create --file image.tar manifest.json ./*.tar
fi
