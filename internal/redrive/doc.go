// Package redrive publishes dead letters back to the stream that they came from,
// so that the ordinary path archives them as new events, under the routes of
// today. Each is published once, whatever crashes and however often it is asked
// for.
//
// Two things make that so. The redrive log, an appendable object of the archive,
// says which letters may have been published, before any of them is, and which
// have been. And a letter is published on a condition: that the stream, which was
// looked through for the letter, has not moved since. So a publisher that was
// paused, or whose answer was lost, is refused, looks again, and finds it.
//
// Not guaranteed: anything once the redrive log is deleted. And on a stream that
// keeps its messages (limits retention) the condition is on the letter's subject:
// a publisher that stands still right before it publishes, for longer than the
// stream remembers message ids and for so long that everything newer on that
// subject has left the stream, could publish a second time.
package redrive
