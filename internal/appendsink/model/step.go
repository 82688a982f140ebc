package main

// Steps: what a transition is, and the making of one.

// emit takes a state that may come next.
type emit func(*state)

// act names a transition.
type act struct {
	kind uint8
	w, n uint8 // writer and series
	arg  uint8 // roll, torn, event, orphan or key, as the kind has it
	part uint8 // of an object: the frame that is hit
}

// Kinds of transitions.
const (
	actTake = iota + 1 // arg 1: the segment is as large as it may get
	actSeal
	actLook // likewise
	actForward
	actFail
	actAnswer
	actGarble
	actDoubt
	actCheckpoint
	actDrop
	actStart // arg 1: from a stale ledger, 2: behind the floor
	actCrash
	actHand
	actRaise
	actFloor
	actStop
	actArrive
	actLost
	actLedgerLost
	actLedgerBack
	actTouch
	actJunk
	actDelete
	actLock
	actCut
	actFlip
	actVanish
	actRewind
	actRecreate
)

// step makes a copy of s, changes it, and hands it on.
func (x *world) step(s *state, out emit, did act, change func(n *state)) {
	n := *s
	x.did = did
	x.said = ""
	change(&n)
	if n.wrong != beyond {
		x.normalise(&n)
		out(&n)
	}
}
