// Package service wires one running archive together from the packages that do
// the work, and opens the same parts for the commands that only read.
//
// It decides nothing about events. What it promises: nothing is read from a
// stream before the configuration, NATS, the store, the streams and the ledger
// have all answered as needed; an error that keeps it from starting names the
// setting and what mends it; and when its context ends it stops in this order:
// stop pulling, flush and confirm every series, commit the ledger, acknowledge,
// release horizons and leases, close the connections. That is bounded by
// intake.drain_timeout; what was not confirmed by then comes again.
package service
