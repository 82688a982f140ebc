#!/bin/sh
# The user comes first: files of the package belong to its group.
set -e
getent group ossuary >/dev/null || groupadd --system ossuary
getent passwd ossuary >/dev/null ||
	useradd --system --gid ossuary --home-dir /var/lib/ossuary --no-create-home --shell /usr/sbin/nologin --comment "Ossuary" ossuary
