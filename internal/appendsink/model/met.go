package main

// What exploring an instance has met, counted by steps: an instance that lacks
// what it is for proves nothing.

type met int

const (
	metApplied met = iota
	metRefused
	metClosed
	metDoubt
	metGarbled
	metLate
	metAdopted
	metOwn
	metHeld
	metSealed
	metFollowed
	metTurned
	metReread
	metWhole
	metBroken
	metBreakFollowed
	metLeft
	metGone
	metListed
	metFromSeal
	metLower
	metAbove
	metBehind
	metStale
	metBack
	metLost
	metDropped
	metJunk
	metFlipped
	metCut
	metDeleted
	metLocked
	metTorn
	metFailed
	metVanished
	metPulled
	metOvertaken
	metOvertakenLate
	metRewound
	metRecreated
	metReused
	metNewerLife
	metSwitched
	metRaised
	metNotRaised
	metCrashed
	mets
)

var metWords = [mets]string{
	metApplied:       "appends applied",
	metRefused:       "appends refused",
	metClosed:        "appends to objects that take none",
	metDoubt:         "appends in doubt",
	metGarbled:       "appends answered with nonsense",
	metLate:          "late requests applied",
	metAdopted:       "frames adopted",
	metOwn:           "own events found in frames",
	metHeld:          "events found to be in the series",
	metSealed:        "seals applied",
	metFollowed:      "seals of others followed",
	metTurned:        "seals that change the codec",
	metReread:        "reads repeated",
	metWhole:         "segments read from the start and found whole",
	metBroken:        "breaks applied",
	metBreakFollowed: "breaks of others followed",
	metLeft:          "segments left without a frame",
	metGone:          "segments found to be gone",
	metListed:        "series found by listing",
	metFromSeal:      "series entered by a seal",
	metLower:         "series entered below what waits",
	metAbove:         "series met again above",
	metBehind:        "refused for a ledger that was behind",
	metStale:         "epochs from a stale ledger",
	metBack:          "ledger rolled back",
	metLost:          "ledger lost",
	metDropped:       "series taken out of the ledger",
	metJunk:          "foreign bytes",
	metFlipped:       "bytes changed",
	metCut:           "objects cut short",
	metDeleted:       "objects deleted",
	metLocked:        "objects closed",
	metTorn:          "reads cut short",
	metFailed:        "reads that fail",
	metVanished:      "events vanished from the stream",
	metPulled:        "of these on their way to a writer",
	metOvertaken:     "overtaken events",
	metOvertakenLate: "of these come after the frames that passed them",
	metRewound:       "stream rewound",
	metRecreated:     "stream made anew",
	metReused:        "epochs ended by a sequence used again",
	metNewerLife:     "epochs ended by a later incarnation",
	metSwitched:      "layouts switched",
	metRaised:        "horizons raised",
	metNotRaised:     "horizons refused",
	metCrashed:       "crashes",
}

func (x *world) meets(m met) { x.met[m]++ }
