package main

// Planted bugs: each takes one rule of the protocol away.
const (
	asIs = iota
	bugAckEarly
	bugTrustLength
	bugAppendAtLength
	bugSealInLedger
	bugIgnoreNext
	bugCarrySeal
	bugDropBySequence
	bugNotDropped
	bugCheckpointSeal
	bugGarbledTaken
	bugDoubtIsSuccess
	bugDoubtElsewhere
	bugOvertakenHeld
	bugNoOvertaken
	bugNoBreakAdvance
	bugOldLife
	bugLeaveAtOnce
	bugCloseByBreak
	bugSettleByLength
	bugBreakNotAnew
	bugNoPrev
	bugNoReread
	bugNoCRC
	bugCompareSequence
	bugCompareCount
	bugNoCompare
	bugNoUnmark
	bugNoRescan
	bugNoFindBreak
	bugAnyBreak
	bugBreakAtValid
	bugGoneInPlace
	bugStartAtOne
	bugHighestCounts
	bugSpentTrusted
	bugSwitchAtFloor
	bugForgetsHorizons
	bugSameLife
	bugNoNewLife
	bugDoneForgets
	bugNoHorizon
	bugGrantsAnybody
	bugEntersAhead
	bugSealOfWriter
	bugForgetsLayouts
	bugFollowsUnproven
	bugFirstByLayout
	bugAboveAhead
	bugUnmarkBySequence
	bugFollowsInside
	bugs
)

// planted says what a bug does, where it shows and as what. Instance "": nowhere;
// why says what stands in for the rule.
type planted struct {
	bug       int
	what      string
	instance  string
	invariant string
	why       string
}

func plantedBugs() []planted {
	return []planted{
		{bugAckEarly, "an event is confirmed when its append is sent", "two writers", invConfirmed, ""},
		{bugTrustLength, "refused, but the object has the length that was to be: taken for our own append", "foreign bytes", invConfirmed, ""},
		{bugAppendAtLength, "refused: the next append goes to the reported length, nothing is read", "doubt", invAgree, ""},
		{bugGarbledTaken, "an answer that is not as computed is taken for success", "bytes change, doubt, roll", invConfirmed, ""},
		{bugDoubtIsSuccess, "no answer is taken for success", "two writers", invConfirmed, ""},
		{bugDoubtElsewhere, "no answer is taken for failure: the events go to the next segment", "two writers", invAgree, ""},

		{bugSealInLedger, "a segment is closed in the ledger only", "two writers", invAgree, ""},
		{bugIgnoreNext, "the next segment has the codec of one's own layout, whatever the seal names", "codec changes, roll", invAgree, ""},
		{bugCarrySeal, "a refused seal is sent to the segment that the series has gone on in", "two writers", invBreak, ""},
		{bugCheckpointSeal, "a checkpoint between the seal and the move to the next segment", "ledger", invConfirmed, ""},

		{bugDropBySequence, "an event is dropped for its sequence alone", "rewound", invConfirmed, ""},
		{bugNotDropped, "events that the series holds are not dropped", "rewound", invAgree, ""},
		{bugNoCompare, "adopted frames are not compared with what waits", "events vanish, roll", invConfirmed, ""},
		{bugCompareCount, "an adopted frame holds whatever of ours lies in its range", "rewound", invConfirmed, ""},
		{bugCompareSequence, "adopted frames are compared by sequence alone", "rewound", invConfirmed, ""},
		{bugOvertakenHeld, "an overtaken event is taken for held", "events vanish, roll", invConfirmed, ""},
		{bugNoOvertaken, "an event that frames have passed is not marked", "events vanish, roll", invConfirmed, ""},
		{bugEntersAhead, "a series is entered by listing behind events that wait here and may have been passed", "events vanish, roll", invConfirmed, ""},
		{bugAboveAhead, "a series is met again above, behind events that wait here and may have been passed", "events vanish, rolls", invConfirmed, ""},
		{bugNoUnmark, "what was found in frames behind bytes that do not hold stays found", "bytes change, doubt, roll", invConfirmed, ""},

		{bugUnmarkBySequence, "what is taken back is told by its sequence, also across incarnations", "rewound, foreign bytes", invTwice, ""},

		{bugNoReread, "what looks wrong is not read again before the segment is read from its start", "reads cut", invTwice, ""},
		{bugNoRescan, "a segment is broken off without reading it from its start", "reads cut", invTwice, ""},
		{bugNoCRC, "what was read need not have the object's length and CRC-64", "object cut", invConfirmed, ""},
		{bugFollowsUnproven, "a seal at the object's end is followed although the CRC-64 does not agree", "open segment deleted", invAgree, ""},
		{bugFollowsInside, "a seal that bytes stand behind is followed without reading its segment from the start", "codec changes, bytes change", invConfirmed, ""},
		{bugBreakAtValid, "a break is put at the valid length, not at the observed one", "bytes change, doubt, roll", invLive, ""},
		{bugNoBreakAdvance, "the first frame behind a break does not follow on it", "foreign bytes", invAgree, ""},
		{bugGoneInPlace, "a deleted segment is broken off without looking where the series is now", "open segment deleted", invAgree, ""},
		{bugSpentTrusted, "the first append behind an old seal, without looking where the series is now", "deleted while asleep", invAgree, ""},
		{bugLeaveAtOnce, "a closed object is left without reading it first", "retention", invAgree, ""},
		{bugCloseByBreak, "a closed object is left by a break", "retention", invLive, ""},

		{bugStartAtOne, "a series that the ledger does not know begins at segment 1", "object deleted", invAgree, ""},
		{bugHighestCounts, "the highest segment counts, though it says nothing", "foreign bytes", invTwice, ""},
		{bugFirstByLayout, "a series' first segment has the codec of one's own layout", "codec changes, vanish", invConfirmed, ""},

		{bugOldLife, "frames of a later incarnation are adopted", "made anew", invConfirmed, ""},
		{bugSameLife, "a stream made anew is the same incarnation", "made anew", invLive, ""},
		{bugNoNewLife, "sequences used again do not raise the incarnation", "rewound", invLive, ""},
		{bugForgetsLayouts, "a rewound stream begins with the newest layout only", "layouts, rewound", invTwice, ""},

		{bugNoHorizon, "events are handed out above the horizon", "layouts, floor", invLayouts, ""},
		{bugGrantsAnybody, "a horizon is granted to a writer that does not know the newest layout", "layouts, floor", invLayouts, ""},
		{bugSwitchAtFloor, "a layout begins above the floor, not above the highest horizon", "layouts, floor", invLayouts, ""},
		{bugForgetsHorizons, "a layout begins above the base, whatever the horizons are", "layouts, floor", invLayouts, ""},
		{bugDoneForgets, "a writer that stops does not say how far it has handed out", "layouts", invLayouts, ""},

		{bugSettleByLength, "in doubt, an object of the same length is taken for the same", "", "",
			"the append that follows is answered with another CRC-64"},
		{bugSealOfWriter, "a seal has its writer's incarnation rather than that of the last event", "", "",
			"a series that is entered behind what waits is read from further back"},
		{bugBreakNotAnew, "a break with no valid frame before it must fit what is known", "", "",
			"all make the same break, or read what follows from its start"},
		{bugNoPrev, "a frame's prev is not checked", "", "", "sequences and the CRC-64 say the same"},
		{bugNoFindBreak, "a break is made without looking for one", "", "", "both name the same segment, which is read from its start"},
		{bugAnyBreak, "a break is followed whatever place it names", "", "", "it must fit the chain, which says the same"},
	}
}
