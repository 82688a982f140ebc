// Package intake reads a lane of a JetStream stream, in order and without a
// hole, and hands each event to a sink under the layout that holds at its
// sequence.
//
// It guarantees that within an epoch the sink sees the lane's messages in stream
// order, each once, none left out; that no event above the writer's horizon is
// handed out; that a message is acknowledged only after the sink has confirmed
// it (on Limits retention an acknowledgement says nothing and may come earlier);
// and that the floor it records never passes an event that is not archived.
//
// It does not guarantee that an event is handed out once over all epochs: a new
// epoch starts behind the floor, and the sink, which knows what the objects
// hold, drops what it has. Nothing here depends on the lease: two owners of one
// lane waste work and harm nothing.
//
// How events become appends is in package appendsink, where they go in router,
// what the control log and the ledger look like in control and ledger.
package intake
