#!/bin/sh
# A new service is not started: it has no configuration of its own yet. One that runs is restarted; it
# drains first, and events wait in the stream.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart ossuary.service || true
fi
