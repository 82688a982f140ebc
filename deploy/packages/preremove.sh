#!/bin/sh
# deb calls it with a word, rpm with the number of versions that will be left.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now ossuary.service || true
	fi
	;;
esac
