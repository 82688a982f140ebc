package main

// run is n events of one series in a row, of one codec, times like sequences.
func row(n int) (out []event) {
	for q := range uint8(n) {
		out = append(out, event{seq: q + 1, time: q + 1, created: 1})
	}
	return out
}

// gaps is events of two series in turn.
func gaps(n int) []event {
	out := row(n)
	for i := range out {
		out[i].series = [2]uint8{uint8(i % 2), uint8(i % 2)}
	}
	return out
}

// instances are the combinations that are explored. Each is small; what matters
// is that together they hold every pair of troubles that could meet. The long ones
// are the same with more of everything.
func instances() []*instance {
	return []*instance{
		{name: "two writers", events: row(2), writers: 2, faults: faults{crash: 1, doubt: 1, roll: 1}, live: 7},
		{name: "two writers, long", long: true, events: row(3), writers: 2, faults: faults{crash: 1, doubt: 2, roll: 1}, live: 31},
		{name: "three writers", events: row(2), writers: 3, faults: faults{doubt: 1}, live: 7},
		{name: "three writers, long", long: true, events: row(2), writers: 3, faults: faults{crash: 1, doubt: 1, roll: 1}, live: 31},
		{name: "three writers, roll", events: row(2), writers: 3, faults: faults{roll: 1}, live: 7},
		{name: "doubt", events: row(2), writers: 2, faults: faults{doubt: 2, garble: 1}, live: 7},
		{name: "doubt, long", long: true, events: row(2), writers: 2, faults: faults{crash: 1, doubt: 3, roll: 1, garble: 1}, live: 31},
		{name: "gaps", events: gaps(3), writers: 2, series: 2, live: 7},
		{name: "gaps, long", long: true, events: gaps(3), writers: 2, series: 2, faults: faults{crash: 1, doubt: 1}, live: 31},

		{name: "ledger", events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, roll: 1, stale: 1}, live: 7},
		{name: "ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 2, roll: 1, stale: 1, back: 1}, live: 31},
		{name: "ledger lost", events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, roll: 1, lost: 1}, live: 7},
		{name: "ledger lost, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 2, roll: 2, lost: 1, drop: 1}, live: 31},
		{name: "ledger rolled back", events: row(2), writers: 1, ledger: true, faults: faults{crash: 2, roll: 1, back: 1, drop: 1}, live: 7},
		{name: "an empty object", events: row(2), writers: 1, ledger: true, faults: faults{crash: 2, touch: 1, roll: 1, lost: 1}, live: 7},

		{name: "foreign bytes", events: row(2), writers: 2, faults: faults{roll: 1, junk: 1}, live: 7},
		{name: "foreign bytes, doubt", events: row(2), writers: 2, faults: faults{doubt: 2, junk: 1}, live: 7},
		{name: "foreign bytes, ledger", events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, junk: 1}, live: 7},
		{name: "foreign bytes, long", long: true, events: row(2), writers: 2, faults: faults{crash: 1, roll: 1, junk: 2}, live: 31},
		{name: "foreign bytes, ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, junk: 1, lost: 1, stale: 1}, live: 31},
		{name: "reads cut", events: row(2), writers: 2, faults: faults{torn: 2, roll: 1}, live: 7},
		{name: "reads cut, long", long: true, events: row(2), writers: 2, faults: faults{crash: 1, torn: 2, doubt: 1, roll: 1}, live: 31},

		{name: "reads fail", events: row(2), writers: 2, faults: faults{fail: 2, roll: 1, doubt: 1}, live: 7},
		{name: "reads fail, long", long: true, events: row(2), writers: 2, faults: faults{crash: 1, fail: 2, doubt: 1, junk: 1}, live: 31},

		{name: "bytes change", events: row(2), writers: 2, faults: faults{crash: 1, flip: 1}, live: 7},
		{name: "bytes change, doubt, roll", events: row(2), writers: 2, faults: faults{doubt: 1, roll: 1, flip: 1}, live: 7},
		{name: "bytes change, long", long: true, events: row(3), writers: 2, faults: faults{crash: 1, flip: 1}, live: 31},
		{name: "object cut", events: row(2), writers: 2, faults: faults{doubt: 1, trunc: 1}, live: 7},
		{name: "object cut, long", long: true, events: row(3), writers: 2, faults: faults{crash: 1, trunc: 1}, live: 31},
		{name: "object cut, ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 2, trunc: 1}, live: 31},
		{name: "object deleted", events: row(2), writers: 2, faults: faults{crash: 1, del: 1, roll: 1}, live: 7},
		{name: "deleted while asleep", events: row(3), writers: 2, faults: faults{del: 1, roll: 2}, live: 7},
		{name: "object deleted, long", long: true, events: row(3), writers: 2, faults: faults{crash: 1, del: 2, roll: 2}, live: 31},
		{name: "object deleted, ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, del: 1, roll: 1, lost: 1}, live: 31},
		{name: "open segment deleted", events: row(3), writers: 2, everywhere: true, faults: faults{del: 1, roll: 1}, live: 7},
		{name: "retention", events: row(2), writers: 2, faults: faults{crash: 1, lock: 1, doubt: 1}, live: 7},
		{name: "retention, long", long: true, events: row(3), writers: 2, faults: faults{crash: 1, lock: 1, doubt: 1}, live: 31},
		{name: "retention, ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{crash: 1, lock: 1, roll: 1, stale: 1}, live: 31},

		{name: "events vanish", events: row(2), writers: 2, faults: faults{vanish: 1, crash: 1, doubt: 1}, live: 7},
		{name: "events vanish, roll", events: row(3), writers: 2, faults: faults{vanish: 1, roll: 1}, live: 7},
		{name: "events vanish, rolls", events: row(4), writers: 2, faults: faults{vanish: 1, roll: 2}, live: 31},
		{name: "events vanish, rolls, deleted", long: true, events: row(4), writers: 2, faults: faults{vanish: 1, roll: 2, del: 1}, live: 7},
		{name: "events vanish, foreign bytes", events: row(3), writers: 2, faults: faults{vanish: 1, roll: 1, junk: 1}, live: 7},
		{name: "events vanish, ledger lost, long", long: true, events: row(2), writers: 2, ledger: true,
			faults: faults{vanish: 1, crash: 1, roll: 1, lost: 1}, live: 63},
		{name: "events vanish, rewound, long", long: true, events: rewind(), writers: 2, stream: 0b0011, rewound: 0b1101,
			faults: faults{vanish: 1, rewind: 1, roll: 1}, live: 31},
		{name: "events vanish, long", long: true, events: row(3), writers: 2, faults: faults{vanish: 1, crash: 1, doubt: 1}, live: 31},
		{name: "events vanish, ledger, long", long: true, events: row(2), writers: 2, ledger: true, faults: faults{vanish: 1, crash: 1, roll: 1, stale: 1}, live: 31},
		{name: "rewound", events: rewind(), writers: 2, stream: 0b0011, rewound: 0b1101, faults: faults{crash: 1, rewind: 1}, live: 7},
		{name: "rewound, roll", events: rewind()[:3], writers: 2, stream: 0b011, rewound: 0b101, faults: faults{rewind: 1, roll: 1}, live: 7},
		{name: "rewound, foreign bytes", events: rewindLate(), writers: 1, stream: 0b0111, rewound: 0b1011, faults: faults{rewind: 1, roll: 1, junk: 1, crash: 1}, live: 7},
		{name: "rewound, foreign bytes, long", long: true, events: rewindLate(), writers: 2, stream: 0b0111, rewound: 0b1011, faults: faults{rewind: 1, roll: 1, junk: 1}, live: 31},
		{name: "rewound, long", long: true, events: rewind(), writers: 2, stream: 0b0011, rewound: 0b1101, faults: faults{crash: 1, rewind: 1, doubt: 1}, live: 31},
		{name: "rewound, ledger, long", long: true, events: rewind()[:3], writers: 2, stream: 0b011, rewound: 0b101, ledger: true,
			faults: faults{crash: 1, rewind: 1, roll: 1, lost: 1}, live: 31},
		{name: "rewound, ledger lost", events: rewind()[:3], writers: 1, stream: 0b011, rewound: 0b101, ledger: true,
			faults: faults{crash: 1, rewind: 1, lost: 1, roll: 1}, live: 31},
		{name: "made anew, ledger lost", events: anew2(), writers: 1, stream: 0b0011, recreated: 0b1100, ledger: true,
			faults: faults{crash: 1, recreate: 1, lost: 1, roll: 1}, live: 7},
		{name: "made anew", events: anew2(), writers: 2, stream: 0b0011, recreated: 0b1100, faults: faults{crash: 1, recreate: 1}, live: 7},
		{name: "made anew, long", long: true, events: anew2(), writers: 2, stream: 0b0011, recreated: 0b1100,
			faults: faults{crash: 1, recreate: 1, doubt: 1, roll: 1}, live: 31},

		{name: "codec changes", events: codecs(2), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, faults: faults{crash: 1, switched: 1}, live: 7},
		{name: "codec changes, roll", events: codecs(3), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, faults: faults{switched: 1, roll: 1}, live: 31},
		{name: "codec changes, vanish", agreed: true, events: codecs(2), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, faults: faults{switched: 1, vanish: 1}, live: 7},
		{name: "codec changes, bytes change", events: codecs(2), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, faults: faults{switched: 1, flip: 1}, live: 7},
		{name: "codec changes, bytes change, ledger", long: true, events: codecs(2), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, ledger: true,
			faults: faults{switched: 1, flip: 1, crash: 1}, live: 31},
		{name: "codec changes, long", long: true, events: codecs(3), writers: 2, configs: [3]uint8{1, 0, 1}, ahead: 1,
			faults: faults{crash: 1, switched: 1, doubt: 1}, live: 31},
		{name: "layouts", events: routes(2), writers: 2, series: 2, configs: [3]uint8{1, 0, 1}, ahead: 2, faults: faults{crash: 1, switched: 1}, live: 7},
		{name: "layouts, floor", events: routes(3), writers: 2, series: 2, configs: [3]uint8{1, 0, 1}, ahead: 1, floors: true, faults: faults{switched: 1}, live: 7},
		{name: "layouts, long", long: true, events: routes(3), writers: 2, series: 2, configs: [3]uint8{1, 0, 1}, ahead: 1,
			faults: faults{crash: 1, switched: 2}, live: 31},
		{name: "layouts, rewound", events: rewoundRoutes(), writers: 2, series: 2, configs: [3]uint8{1, 0, 1}, ahead: 2,
			stream: 0b0011, rewound: 0b1101, faults: faults{switched: 1, rewind: 1}, live: 31},
		{name: "layouts, rewound, long", long: true, events: rewoundRoutes(), writers: 2, series: 2, configs: [3]uint8{1, 0, 1}, ahead: 1,
			stream: 0b0011, rewound: 0b1101, faults: faults{crash: 1, switched: 1, rewind: 1}, live: 63},
	}
}

// rewind: 1 2 were there, then 1 2' 3.
func rewind() []event {
	return []event{{seq: 1, time: 1, created: 1}, {seq: 2, time: 2, created: 1}, {seq: 2, time: 3, created: 1}, {seq: 3, time: 4, created: 1}}
}

// rewindLate: 1 2 3 were there, then 1 2 3'.
func rewindLate() []event {
	return []event{{seq: 1, time: 1, created: 1}, {seq: 2, time: 2, created: 1}, {seq: 3, time: 3, created: 1}, {seq: 3, time: 4, created: 1}}
}

// anew2: 1 2 were there, then 1' 2' of a stream made anew.
func anew2() []event {
	return []event{{seq: 1, time: 1, created: 1}, {seq: 2, time: 2, created: 1}, {seq: 1, time: 3, created: 2}, {seq: 2, time: 4, created: 2}}
}

// codecs: the series stays, its codec is the layout's.
func codecs(n int) []event {
	out := row(n)
	for i := range out {
		out[i].ext = [2]uint8{0, 1}
	}
	return out
}

// routes: the layout decides which series the events go to.
func routes(n int) []event {
	out := row(n)
	for i := range out {
		out[i].series = [2]uint8{0, 1}
	}
	return out
}

// rewoundRoutes: rewind, with the layout deciding which series the events go to.
func rewoundRoutes() []event {
	out := rewind()
	for i := range out {
		out[i].series = [2]uint8{0, 1}
	}
	return out
}
