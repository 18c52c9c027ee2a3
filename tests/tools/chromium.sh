#!/usr/bin/env bash
# The page checks need a browser: installs Debian's Chromium if there is none and the user may.
set -euo pipefail

for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ]; then
  as_root=()
elif sudo -n true 2>/dev/null; then
  as_root=(sudo -n)
else
  echo "No Chromium found; ask an administrator for 'apt-get install chromium'" >&2
  exit 1
fi
echo "No Chromium found: installing Debian's"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends chromium >/dev/null
