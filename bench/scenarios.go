//go:build unix

package main

import "time"

// scenario is what is measured together in a round.
type scenario struct {
	name, title string
	contenders  []string // of the table of figures, in its order
	run         func(b *bench, t *trial, out *round)
}

func racing(name, title string, r race) scenario {
	return scenario{name: name, title: title, contenders: r.contenders, run: r.run}
}

// scenarios are in the order in which a round measures them: what matters most
// comes first, should the time run out.
var scenarios = []scenario{
	racing("series-16", "16 series, 1 KiB", race{series: 16, payload: 1024, events: 1, linger: time.Second,
		contenders: []string{bareNone, bareAll, bareExplicit, plain, plainSlow, gzipped, zstandard, emulated, hand500, hand500Slow, hand1, hand1Slow}}),
	racing("series-1000", "1,000 series, 1 KiB", race{series: 1000, payload: 1024, events: 1, linger: time.Second,
		contenders: []string{bareExplicit, plain, known}}),
	// 10,000 busy series keep a linger of 5 s only with 2 × rate × size × linger of memory.
	racing("series-10000", "10,000 series, 1 KiB, linger 5 s, limits.memory 1 GiB", race{series: 10_000, payload: 1024, events: 1.5, linger: 5 * time.Second,
		more: "limits: {memory: 1GiB}\n", contenders: []string{bareExplicit, plain, known, knownSmall}}),
	racing("small", "16 series, 128 B", race{series: 16, payload: 128, events: 2, linger: time.Second,
		contenders: []string{bareNone, bareAll, bareExplicit, plain}}),
	{name: "latency", title: "5,000 events/s, linger 0, appends of 20 ms", run: latency},
	{name: "restart", title: "restart with 10,000 open series and a backlog", run: restart},
	{name: "replay", title: "everything comes again and is archived already", contenders: []string{bareExplicit, plain}, run: replay},
	{name: "verify", title: "verify against zcat | sha256sum", run: verify},
	{name: "adoption", title: "the answer to one append is lost", run: adoption},
	racing("series-1", "1 series, 1 KiB", race{series: 1, payload: 1024, events: 1, linger: time.Second,
		contenders: []string{bareExplicit, plain}}),
}
