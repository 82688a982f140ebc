// Package deploy holds the checks of what lies in deploy/: that the Kubernetes
// manifests render and are what the API would take, that the systemd unit is
// one and closes what it can, and that what Prometheus and Grafana are given fits
// together. It is a module of its own, so that the libraries for it stay out of
// the product's.
package deploy
