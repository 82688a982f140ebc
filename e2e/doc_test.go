//go:build unix

// Package e2e proves what Ossuary promises from outside, with processes of
// their own: the real binary, a NATS server with a file store, the emulator, and
// proxies between them. They are killed, paused and cut off; then `consumer
// verify` must be content, and a reader that shares no code with the product
// must find in the raw bytes every event of the stream exactly once.
//
//	go test ./e2e                         a quick form
//	OSSUARY_TORTURE=short go test ./e2e   minutes
//	OSSUARY_TORTURE=long  go test ./e2e   200,000 events, ten kills
//
// OSSUARY_SEED repeats a run's random choices as far as real processes allow;
// the seed is printed. OSSUARY_KEEP=1 keeps the files of tests that passed;
// those of failed ones are kept anyway. OSSUARY_RACE=1 builds the binary with
// the race detector.
package e2e
