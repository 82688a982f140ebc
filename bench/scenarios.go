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

var scenarios []scenario

func init() {
	scenarios = []scenario{
		racing("series-16", "16 series, 1 KiB", race{series: 16, payload: 1024, events: 1, linger: time.Second,
			contenders: []string{bareNone, bareAll, bareExplicit, hand500, hand1, plain}}),
	}
}
