package fakenats

import (
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What follows is for the test: it acts on the server from outside, and takes no
// time.

// CreateStream creates a stream.
func (s *Server) CreateStream(cfg jetstream.StreamConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[cfg.Name] = newStream(s, cfg)
}

// Publish stores a message and returns its sequence, 0 if the stream has no
// leader.
func (s *Server) Publish(stream, subject string, header, data []byte) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	if st == nil || st.leaderless || s.down {
		return 0
	}
	return st.store(subject, header, data).Sequence
}

// Expire removes messages, as limits do.
func (s *Server) Expire(stream string, seqs ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	for _, seq := range seqs {
		st.remove(seq, Expired)
	}
}

// State is the stream's first and last sequence.
func (s *Server) State(stream string) (first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	return st.first, st.last
}

// Restart takes the server down for a while: connections break, and nothing can
// be dialled. Consumers come back as they stood on disk if forget says so: what
// was delivered or acknowledged just before is forgotten. With that, resurrect
// brings back the messages that those acknowledgements have deleted.
func (s *Server) Restart(down time.Duration, forget, resurrect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace("", "restart", "", 0)
	s.down = true
	for _, l := range s.links {
		l.drop(true, 0)
	}
	for _, st := range s.sorted() {
		for _, o := range slices.Clone(st.consumers) {
			for len(o.waiting) > 0 {
				o.drop(o.waiting[0])
			}
			if o.cfg.DeliverSubject != "" { // kept in memory
				st.deleteConsumer(o)
			}
		}
	}
	s.later(down, func() {
		s.down = false
		for _, st := range s.sorted() {
			if forget {
				st.forget(resurrect)
			}
			st.settle()
		}
	})
}

// Rewind takes the messages behind last away, as a loss of power does that were not on
// disk: their sequences are used again. With reconcile the consumers are set back too,
// as newer servers do where a stream has no replicas; others stay where they were.
func (s *Server) Rewind(stream string, last uint64, reconcile bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	for seq := last + 1; seq <= st.last; seq++ {
		delete(st.msgs, seq)
		delete(st.acked, seq)
	}
	st.last = last
	st.first = min(st.first, last+1)
	for _, o := range st.consumers {
		if !reconcile || o.sseq <= last {
			continue
		}
		o.pending, o.times, o.again = map[uint64]uint64{}, map[uint64]uint64{}, nil
		o.sseq, o.ackS, o.ackC, o.start = last, min(o.ackS, last), o.dseq, min(o.start, last)
		o.saved, o.savedAt = o.position.clone(), time.Now()
	}
}

// forget puts the consumers back to what stands on disk.
func (st *stream) forget(resurrect bool) {
	if resurrect {
		for _, seq := range slices.Sorted(maps.Keys(st.acked)) {
			if slices.ContainsFunc(st.consumers, func(o *consumer) bool {
				_, open := o.saved.pending[seq]
				return o.wants(st.acked[seq].Subject) && seq > o.saved.ackS && (open || seq > o.saved.sseq)
			}) {
				st.msgs[seq] = st.acked[seq]
				st.first = min(st.first, seq)
				delete(st.acked, seq)
			}
		}
	}
	for _, o := range st.consumers {
		o.position = o.saved.clone()
		for seq := range o.pending {
			if st.msgs[seq] == nil {
				delete(o.pending, seq)
			}
		}
	}
}

// ChangeLeader leaves the stream without a leader for a while. The new one ends
// all pulls; with forget it knows less of the consumers than the old one.
func (s *Server) ChangeLeader(stream string, without time.Duration, forget bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	if st == nil || st.leaderless {
		return
	}
	s.trace("", "leader", stream, 0)
	st.leaderless = true
	for _, o := range st.consumers {
		for len(o.waiting) > 0 {
			o.end(o.waiting[0], "409 Leadership Change")
		}
	}
	s.later(without, func() {
		st.leaderless = false
		if forget {
			st.forget(false)
		}
		for _, o := range slices.Clone(st.consumers) {
			o.run()
		}
	})
}

// DeleteConsumers removes the stream's pull consumers.
func (s *Server) DeleteConsumers(stream string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, n := s.streams[stream], 0
	for _, o := range slices.Clone(st.consumers) {
		if o.cfg.DeliverSubject == "" {
			st.deleteConsumer(o)
			n++
		}
	}
	return n
}

// Redeliver has what is not acknowledged delivered again, behind newer messages
// if late says so. It returns how many that are.
func (s *Server) Redeliver(stream string, late bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Clone(s.streams[stream].consumers) {
		if late {
			for o.one() { // what waits goes first
			}
		}
		for _, seq := range slices.Sorted(maps.Keys(o.pending)) {
			o.redeliver(seq)
			n++
		}
		o.run()
	}
	return n
}

// Copy returns what a stream holds, for Restore.
func (s *Server) Copy(stream string) []*Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	if st == nil {
		return nil
	}
	var all []*Message
	for seq := st.first; seq <= st.last; seq++ {
		if m := st.msgs[seq]; m != nil {
			all = append(all, m)
		}
	}
	return all
}

// Restore puts a stream back to a copy, as a restored backup does: sequences are
// used again.
func (s *Server) Restore(stream string, all []*Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	if st == nil {
		return
	}
	st.msgs, st.log, st.first, st.last = map[uint64]*Message{}, nil, 1, 0
	for _, m := range all {
		st.msgs[m.Sequence] = m
		st.last = m.Sequence
		st.log = append(st.log, m)
	}
	st.skip()
}

// DeleteStream removes a stream with its consumers.
func (s *Server) DeleteStream(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[stream]; st != nil {
		s.deleteStream(st)
	}
}
