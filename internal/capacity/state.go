package capacity

import (
	"container/list"
	"time"

	"ossuary/internal/router"
)

// newLane makes a lane without a router, whose series are made by the caller.
func newLane(most int) *lane {
	return &lane{series: map[string]*series{}, past: map[string]bool{}, lru: list.New(), most: most}
}

// newSeries makes one of the lane's series that nobody knows of yet.
func (l *lane) newSeries(name string, ru *rule) *series {
	s := &series{name: name, lane: l, rule: ru, heapIndex: -1, before: l.past[name]}
	l.series[name] = s
	return s
}

// lane is one lane's set of series.
type lane struct {
	router *router.Router
	series map[string]*series
	past   map[string]bool // names that were forgotten
	lru    *list.List      // of the open ones, most recently used first
	open   int
	most   int // limits.open_series
	busy   bool
	dirty  []*series
	drops  []*series
}

// series is one sink.
type series struct {
	name      string
	lane      *lane
	rule      *rule
	queue     []*batch
	hand      *batch
	working   bool
	seal      bool
	heapIndex int
	due       time.Duration
	lru       *list.Element // nil: not open

	known    bool // its tail is; else it has to be looked for
	position float64
	spent    bool // it ended with a seal
	opened   time.Duration
	written  time.Duration
	inWheel  bool
	dirty    bool
	inLedger bool
	gone     bool
	partial  bool // not all frames of the segment are in memory: its seal has to read them
	before   bool // it was there and is forgotten: it has segments
	requests pass // of the attempt in flight
	named    bool
	since    time.Duration // of the count
	events   int           // since then
}

// pass is what one attempt asks of OSS.
type pass struct {
	lists, seals int
	looks        int     // heads and reads
	bytes        float64 // of the frame; 0: none
	begins       bool    // an object
}

type batch struct {
	body, room int64
	n          int
	cost       int64
	due        time.Duration
	first      time.Duration
	enough     bool // to be sent once the line is free
	full       bool
}

type arrival struct {
	lane *lane
	s    *series
	at   time.Duration
	line int64
	need int64
}

// counts are what happened in the day; In and Out count from the beginning.
type counts struct {
	in, out                      int
	arrived, archived            int
	dead, skipped                int
	appends, seals, lists, looks int
	objects                      int
	line, stored                 float64
	puts, deletes                int
	laneWrites, evictions        int
	early, stalls                int
	delay, longest               time.Duration
	minute                       [24 * 60]minute
	mostUsed                     int64
	mostOpen, mostWaiting        int
	mostBlocked                  int
	slotTime                     time.Duration
	names                        int     // series that got an event in the day
	busiest                      float64 // events a second of the busiest series, over a minute
}

type minute struct {
	events, requests, puts, laneWrites int
	bytes                              float64
	slotTime                           time.Duration
}

type dueHeap []*series

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	s := x.(*series)
	s.heapIndex = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	*h = old[:len(old)-1]
	s.heapIndex = -1
	return s
}

type finished struct {
	at time.Duration
	s  *series
}

type doneHeap []finished

func (h doneHeap) Len() int           { return len(h) }
func (h doneHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h doneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *doneHeap) Push(x any) { *h = append(*h, x.(finished)) }

// Pop implements heap.Interface.
func (h *doneHeap) Pop() any {
	old := *h
	f := old[len(old)-1]
	*h = old[:len(old)-1]
	return f
}
