// Package fakenats is a NATS server with JetStream in memory, for tests that run
// on simulated time: nats.go talks to it in the client protocol over connections
// that never leave the process and block only as testing/synctest can see.
//
// It has the part of JetStream that this program uses, and behaves as the real
// server was seen to; a test runs the same script on both. Beyond that it does
// on demand what real servers do now and then: lose a connection with what was
// on its way, forget what consumers had delivered, answer from a replica that
// lags, have no leader, or come back with messages that were acknowledged.
//
// All work of the server is done under one lock, one step at a time. With a
// Delay each step happens at an instant of its own, so that the order of things
// follows from the delays and not from the scheduler.
package fakenats
