// Model explores small worlds of the append protocol to their end: every
// interleaving of writers, requests under way and whatever the environment may
// do, breadth first over explicit states. Each rule of internal/appendsink stands
// here a second time, in the fewest words; a state that breaks an invariant is
// printed with the shortest way to it.
//
//	go run ./internal/appendsink/model                   the small instances, seconds
//	go run ./internal/appendsink/model -long             all of them, minutes
//	go run ./internal/appendsink/model -bugs             each planted bug, with its trace
//	go run ./internal/appendsink/model -only retention
//
// # Where the code stands
//
//	sink.go     append.go: attempt, settle, dropHeld, frame, seal, goOn
//	answer.go   append.go: put, append, leave; commit: stalls
//	read.go     read.go: readForward, readSegment, adopt, rescan, findBreak, breakOff
//	chain.go    event.Chain; compare.go: judge, compare, judgeLate, unmark, firm
//	find.go     look.go: locate, enter, enterAbove, passGone, fromSeal; passed.go
//	env.go      checkpoint.go: note, write, drop; and the environment
//	intake.go   intake: an epoch's beginning, the floor; control.State: SwitchLayout,
//	            WithHorizon, Done, NewIncarnation
//	check.go    internal/archive: the walk; and the invariants
//
// That they do what the code does is not only said here: twin_test.go walks the model
// and the real sinks through the same steps, and says what these walks do not reach.
//
// A step is what lies between two requests to the store. An append takes effect
// at a step of its own, so that it can be refused, be applied with the answer
// lost, or arrive when its writer has long given it up. Head and the read behind
// it are one step, as are the requests by which a series is looked up: appended
// bytes do not change, and what comes later is found by the next read. A segment
// is one step, so that others may write between two of them.
//
// # What is modelled
//
// The optimistic first append, refusal, forward read, adoption, comparison with
// what waits (by sequence and time, also of events still to come), doubt, late
// requests, seals for size, idleness and codec, next keys, re-reading, the second
// reading from the start, finding and making breaks, deleted and closed objects,
// the ledger with its revisions (behind, stale, rolled back, lost, entries taken
// out), listing, two and three writers, foreign bytes, bytes that change, objects
// cut short, answers that do not agree, reads that fail or are cut short,
// incarnations, events that vanish from the stream, also while they are on their way
// to some of the writers, overtaken events, horizons, layouts that change the series
// or the codec, epochs that end and begin anew.
//
// Bytes are frames, and equal contents are equal numbers: an object is a list of
// frames, its CRC-64 the number of that list. A data frame is as long as it has
// events and any other one byte, so that lengths coincide far more often than
// they do in life.
//
// # What is not
//
// Time, backoff, memory, eviction, held series, a writer that is further behind than
// it can remember, and what a store refuses for its rights. Frames of other archives.
// The lease. Acknowledgements. Dead letters are archived in one step: each has a
// series of its own, by the same protocol. The appends of the control log are one
// step each. A read is cut at most twice in a row. And what the protocol does not
// promise:
//
//   - A segment is deleted only once nobody alive believes that nothing is in it:
//     his first append would not be refused. A series of which no object is left
//     begins anew.
//   - A segment that is cut short is the series' last one.
//   - What stands behind bytes that changed is given up with them.
//   - A segment that a seal ends for another codec keeps its bytes until the next
//     one is begun: no other frame says what the next key is.
//   - Of an event that vanished, and lies where a segment is gone, nobody who meets
//     the series behind it can tell whether it was held or passed.
//
// # Where the code does less
//
// The series' first segment has its writer's codec, in all instances but one. Two
// writers under layouts of different codecs can make two of them: each looks the
// series up and finds nothing, and then both append. It takes an event that one of
// them never saw. The instance "codec changes, vanish" lets them agree on a codec,
// with which it holds; the trace of bugFirstByLayout is what the code does there.
//
// # Sameness
//
// Writers of one configuration are alike, so states that differ by their order
// are one. Visited states are known by 64 bits of hash; that two of a million
// share theirs has a chance below one in ten million. From every n-th state each
// writer is run alone, with no further faults: all must be archived in the end,
// and be where a reader finds it.
package main
