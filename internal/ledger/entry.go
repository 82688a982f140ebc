package ledger

import (
	"time"

	"ossuary/internal/event"
)

// Version is the version of the entries' form; a reader refuses a higher one.
const Version = 1

// Lane is the entry lane.<source>.<lane>: the lease and the checkpoint of a lane.
type Lane struct {
	Version     int       `json:"v"`
	Owner       string    `json:"owner"`   // instance that holds the lease, "" if released
	Counter     uint64    `json:"counter"` // rises with every renewal; a standby that sees it stand still for the TTL takes over
	Epoch       uint64    `json:"epoch"`   // number of the newest epoch; names its consumer
	Incarnation int       `json:"incarnation"`
	Floor       uint64    `json:"floor"`      // every event of the lane up to this sequence is archived
	FloorTime   time.Time `json:"floor_time"` // stream timestamp of the message at Floor, zero if unknown
	Tally       Tally     `json:"tally"`
	Updated     time.Time `json:"updated"`
}

// Tally counts what a lane's owners handed out between two sequences. An archive
// that holds fewer events than its tally says has lost some.
type Tally struct {
	From        uint64 `json:"from"`         // first sequence of the stream that counts
	Floor       uint64 `json:"floor"`        // last
	Events      uint64 `json:"events"`       // messages delivered in From..Floor
	Skipped     uint64 `json:"skipped"`      // of these, left out because a route or the layout says so
	DeadLetters uint64 `json:"dead_letters"` // of these, archived as dead letters
}

// Tail is the entry tail.<source>.<lane>.<series>: what a writer knew of a series
// when it last confirmed an append. It may lag behind the object, never lead it.
type Tail struct {
	Version     int        `json:"v"`
	Key         string     `json:"key"`     // object key of the segment the next append goes to
	Segment     int        `json:"segment"` // its number, from 1
	Position    int64      `json:"position"`
	CRC64       uint64     `json:"crc64,string"` // of the segment's bytes before Position
	Frames      int        `json:"frames"`       // in the segment before Position
	Last        uint64     `json:"last"`         // last sequence in the series
	Greatest    time.Time  `json:"greatest"`     // greatest stream timestamp in the series
	Created     time.Time  `json:"created"`      // creation time of the stream that Last belongs to
	Incarnation int        `json:"incarnation"`
	Hash        event.Hash `json:"hash"`   // content hash of the last frame; zeros before the first
	Events      uint64     `json:"events"` // in the segment before Position
	Bytes       int64      `json:"bytes"`  // uncompressed, in the segment before Position
	Opened      time.Time  `json:"opened"` // writer's clock at the segment's first append; for roll.age only
	Written     time.Time  `json:"written"`
	Sealed      bool       `json:"sealed"` // the previous segment ended and nothing was written to Key yet
	Route       string     `json:"route"`  // for the sweep, which applies the route's roll rules
}
