// Package control keeps the control log: the appendable object that says, for
// one source, which layout holds since which sequence, and up to which sequence
// each writer may hand events out.
//
// Every line is the whole state. A line is appended at the position behind the
// one it was made from, so an append is a compare-and-swap on the state: whoever
// knows less than the object is refused, reads on and decides anew.
//
// The guarantee: within one incarnation of a stream no sequence is ever handed
// out under two layouts, by whatever writers, as long as each hands out a
// sequence only when it is not above State.Horizon in a state that Update or
// Refresh returned, and under the layout that this state names for it. It rests
// on two rules of State:
//
//   - a new layout begins above every horizon that was ever granted to a writer
//     that is not known to be done;
//   - a horizon is granted only to a writer that knows the newest layout and the
//     incarnation, in the same compare-and-swap.
//
// A zombie therefore stays below `since` of whatever layouts came after it, and
// the append that would raise its horizon is refused by its stale position.
//
// Not guaranteed: that events are handed out at all, or only once; that is the
// matter of the lanes and of the series' own objects.
package control
