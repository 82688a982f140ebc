// Package replay publishes archived events to a JetStream stream, and proves that
// they are there.
//
// What it guarantees: of one archived stream each event stands in the target at
// most once, in the archived order among those of one replay, however often and
// from wherever replays are run, whatever is lost or repeated on the way, and
// whoever else publishes to the target meanwhile. As in the archive, the truth is
// the thing written to, and not what the writer remembers:
//
//   - Every message says in its headers which event it is. Before anything is
//     published the target is read, and what is there is left out.
//   - Every message is published with Nats-Expected-Last-Sequence and, behind one that
//     is still on its way, Nats-Expected-Last-Msg-Id: the server takes it only if the
//     target ends there, and with that message. (On a replicated target one message
//     is on its way at a time instead, unless the caller says that it is alone; if it
//     is not, the order may suffer, but nothing is doubled.) A replay that knows less than the target
//     holds is refused; it reads forward, takes what is its own for done, and goes
//     on behind it. A message can only land in its place, so that those behind one
//     that was lost are refused as well, and nothing gets out of order.
//
// Nats-Msg-Id is set too, but nothing rests on it: a server forgets it after the
// stream's duplicate window.
//
// What it does not guarantee: an event that the target has forgotten (consumed from
// a work queue, expired, purged) is published again, unless a state file remembers
// it; and of an archive that is being written the newest events may come in a later
// replay, behind others that came before them.
package replay

import (
	"context"
	"iter"

	"ossuary/internal/archive"
)

// Events is archived events of one stream in its order, as archive.Reader.Merge
// yields them. It can be gone through more than once.
type Events func(context.Context) iter.Seq2[*archive.Record, error]
