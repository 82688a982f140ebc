// Package clients has nothing but tests: the official clients of OSS, unchanged,
// against the emulator, and the vendor's own test suites for his Go SDKs. It is a
// module of its own so that these clients stay out of the product's dependencies.
//
//	go -C clients test -short ./...   the clients
//	go -C clients test ./...          and the vendor's suites
package clients
