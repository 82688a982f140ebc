package capacity

import (
	"container/heap"
	"time"
)

// What the writers hold to; see package appendsink, whose names these are.
const (
	eventOverhead = 32       // bytes of a batch for an event, besides its line
	maxRawEvents  = 10 << 10 // of a raw frame, whose header lists their sequences
	growth        = 4        // how much more a batch takes while an append is under way
	mostGrown     = 16 << 20 // bytes that it does not grow past
	earlyBatches  = 16       // that each lane sends before their time when memory is short
	againLooks    = 4        // heads and reads where a series that was forgotten is found again
	sweepEvery    = 5 * time.Second
	floorEvery    = time.Second // see package intake
)

// machine is the writers of some lanes that share an instance, on simulated time.
// It is driven by advance and arrive.
type machine struct {
	now   time.Duration // since the machine was started
	dawn  time.Duration // when the day begins that counts
	lanes []*lane
	c     costs

	slots    int // appends in flight at once
	inFlight int
	turn     []*series // that wait for a slot
	limit    int64     // memory
	used     int64
	timers   dueHeap
	done     doneHeap
	blocked  []arrival // that wait for memory or for room among the open series

	ledgerEvery time.Duration
	nextLedger  time.Duration
	nextFloor   time.Duration
	nextSweep   time.Duration
	wheel       map[int64][]*series // by sweep: series to look at then

	count counts
	day   bool // what happens now counts
}

// costs say how long requests take.
type costs struct {
	request   time.Duration
	bandwidth float64 // bytes a second
}

func (c costs) append(bytes float64) time.Duration {
	return c.request + time.Duration(bytes/c.bandwidth*1e9)
}

// rule is how the series of a route are written.
type rule struct {
	size, events int
	linger       time.Duration
	rollSize     int64
	rollAge      time.Duration
	rollIdle     time.Duration
	raw          bool
	sizes        *sizes
}

func (m *machine) minute() *minute {
	return &m.count.minute[min(max(int((m.now-m.dawn)/time.Minute), 0), 24*60-1)]
}

// advance lets everything happen that is due up to t.
func (m *machine) advance(t time.Duration) {
	for {
		next, what := t, 0
		if len(m.done) > 0 && m.done[0].at <= next {
			next, what = m.done[0].at, 1
		}
		if len(m.timers) > 0 && m.timers[0].due <= next && (what == 0 || m.timers[0].due < next) {
			next, what = m.timers[0].due, 2
		}
		if m.nextLedger < next {
			next, what = m.nextLedger, 3
		}
		if m.nextSweep < next {
			next, what = m.nextSweep, 4
		}
		if m.nextFloor < next {
			next, what = m.nextFloor, 5
		}
		m.now = max(m.now, next)
		switch what {
		case 0:
			return
		case 1:
			f := heap.Pop(&m.done).(finished)
			m.finish(f.s)
		case 2:
			s := heap.Pop(&m.timers).(*series)
			m.start(s)
		case 3:
			m.checkpoint()
			m.nextLedger += m.ledgerEvery
		case 4:
			m.sweep()
		case 5:
			m.floors()
		}
	}
}

// arrive hands over one event.
func (m *machine) arrive(l *lane, s *series, line, need int64) {
	m.count.in++
	if m.day {
		m.count.arrived++
		m.minute().events++
	}
	m.tally(s)
	a := arrival{l, s, m.now, line, need}
	if len(m.blocked) > 0 || !m.take(a) {
		m.blocked = append(m.blocked, a)
		m.count.mostBlocked = max(m.count.mostBlocked, len(m.blocked))
	}
}

func (m *machine) tally(s *series) {
	if !m.day {
		return
	}
	if !s.named {
		s.named = true
		m.count.names++
	}
	if m.now-s.since >= time.Minute {
		s.since, s.events = m.now, 0
	}
	s.events++
	m.count.busiest = max(m.count.busiest, float64(s.events)/time.Minute.Seconds())
}

// unblock takes what has been waiting, in its order.
func (m *machine) unblock() {
	for len(m.blocked) > 0 && m.take(m.blocked[0]) {
		m.blocked = m.blocked[1:]
	}
	if len(m.blocked) == 0 {
		m.blocked = nil
	}
}

func (m *machine) take(a arrival) bool {
	if m.used > 0 && m.used+a.need > m.limit/8*5 {
		m.pressed()
		return false
	}
	if a.s.lru == nil && a.lane.open >= a.lane.most && !m.evict(a.lane) {
		m.count.stalls++
		return false
	}
	m.open(a.s)
	m.fill(a.s, a.line, a.at)
	if m.used > m.limit/2 {
		m.pressed()
	}
	return true
}

func (m *machine) open(s *series) {
	l := s.lane
	if s.lru != nil {
		l.lru.MoveToFront(s.lru)
		return
	}
	s.lru = l.lru.PushFront(s)
	l.open++
	m.count.mostOpen = max(m.count.mostOpen, l.open)
}

// evict forgets the least recently used series that has nothing to do, or sends the
// batches of some that have.
func (m *machine) evict(l *lane) bool {
	flushed := 0
	for e := l.lru.Back(); e != nil; {
		s := e.Value.(*series)
		e = e.Prev()
		if s.working {
			continue
		}
		if len(s.queue) == 0 {
			m.close(s)
			m.count.evictions++
			return true
		}
		s.queue[0].due = m.now
		if s.heapIndex >= 0 {
			heap.Remove(&m.timers, s.heapIndex)
		}
		m.start(s)
		if flushed++; flushed == earlyBatches {
			break
		}
	}
	return false
}

func (m *machine) close(s *series) {
	s.lane.lru.Remove(s.lru)
	s.lru = nil
	s.partial = s.position > 0
	s.lane.open--
	if s.spent && !s.inLedger && !s.dirty {
		s.forget()
	}
}

// forget takes the series out of everything: it has to be looked for if it comes
// again.
func (s *series) forget() {
	s.gone = true
	delete(s.lane.series, s.name)
	s.lane.past[s.name] = true
}

// fill adds an event's line to the series' last batch, or to a new one.
func (m *machine) fill(s *series, line int64, at time.Duration) {
	var b *batch
	if n := len(s.queue); n > 0 && !s.queue[n-1].full {
		b = s.queue[n-1]
	} else {
		if n > 0 {
			s.queue[n-1].full = true
		}
		b = &batch{due: m.now + s.rule.linger, first: at}
		s.queue = append(s.queue, b)
	}
	b.body += line
	for b.room < b.body { // as a slice grows
		if b.room < 256 {
			b.room = max(2*b.room, b.body)
		} else {
			b.room += (b.room + 768) / 4
		}
	}
	b.n++
	b.enough = b.body >= int64(s.rule.size)
	b.full = b.full || b.body >= int64(grown(s.rule.size)) || b.n >= s.rule.events || s.rule.raw && b.n >= maxRawEvents
	more := b.room + eventOverhead*int64(b.n) - b.cost
	b.cost += more
	m.used += more
	m.count.mostUsed = max(m.count.mostUsed, m.used)
	m.schedule(s)
}

func (m *machine) schedule(s *series) {
	if s.working || (len(s.queue) == 0 && !s.seal) {
		return
	}
	if m.ripe(s) {
		if s.heapIndex >= 0 {
			heap.Remove(&m.timers, s.heapIndex)
		}
		m.start(s)
		return
	}
	if s.heapIndex < 0 {
		s.due = s.queue[0].due
		heap.Push(&m.timers, s)
	}
}

// grown is how many bytes a batch takes while an append is under way.
func grown(size int) int { return max(size, min(growth*size, mostGrown)) }

func (m *machine) ripe(s *series) bool {
	if len(s.queue) == 0 {
		return s.seal
	}
	return s.queue[0].enough || s.queue[0].full || len(s.queue) > 1 || m.now >= s.queue[0].due
}

// pressed sends the oldest batches before their time.
func (m *machine) pressed() {
	for i := 0; i < earlyBatches*len(m.lanes) && len(m.timers) > 0; i++ {
		m.count.early++
		m.start(heap.Pop(&m.timers).(*series))
	}
}

// start gives the series to a worker, which takes its first batch and waits for a
// slot.
func (m *machine) start(s *series) {
	s.working = true
	if len(s.queue) > 0 {
		s.hand, s.queue = s.queue[0], s.queue[1:]
		s.hand.full = true
		s.seal = false
	}
	m.turn = append(m.turn, s)
	m.dispatch()
}

func (m *machine) dispatch() {
	for m.inFlight < m.slots && len(m.turn) > 0 {
		s := m.turn[0]
		m.turn = m.turn[1:]
		m.begin(s)
	}
	m.count.mostWaiting = max(m.count.mostWaiting, len(m.turn))
}

// begin is the requests of one commit.
func (m *machine) begin(s *series) {
	var p pass
	var takes time.Duration
	if !s.known {
		p.lists++
		if s.before {
			p.looks += againLooks
			p.lists++ // for the first append to the segment behind the seal
		}
		takes += time.Duration(p.lists+p.looks) * m.c.request
	}
	if s.hand == nil {
		takes += m.sealing(s, &p)
	} else {
		if s.known && s.spent {
			p.lists++ // nothing refuses the first append to a segment: look above it
			takes += m.c.request
		}
		p.bytes = s.rule.sizes.frame(s.hand.n)
		old := s.rule.rollAge > 0 && s.position > 0 && m.now-s.opened >= s.rule.rollAge
		if s.position > 0 && (old || s.position+p.bytes > float64(s.rule.rollSize)) {
			takes += m.sealing(s, &p)
			s.position = 0
		}
		p.begins = s.position == 0
		takes += m.c.append(p.bytes)
	}
	s.requests = p
	m.inFlight++
	if m.day {
		m.count.slotTime += takes
		m.minute().slotTime += takes
	}
	heap.Push(&m.done, finished{m.now + takes, s})
}

// sealing adds the requests of a seal, and says what they take.
func (m *machine) sealing(s *series, p *pass) time.Duration {
	takes := m.c.request
	p.seals++
	if s.partial {
		p.looks++
		takes += m.c.append(s.position) // all of the segment is read
	}
	s.partial = false
	return takes
}

// finish is the end of a commit.
func (m *machine) finish(s *series) {
	m.inFlight--
	p, b := s.requests, s.hand
	s.hand, s.known, s.written = nil, true, m.now
	if m.day {
		m.account(s, p, b)
	}
	if b == nil {
		s.seal = false
		s.position, s.spent = 0, true
		s.lane.drops = append(s.lane.drops, s)
	} else {
		if p.begins {
			s.position, s.opened = 0, m.now
		}
		s.position += p.bytes
		s.spent = false
		m.used -= b.cost
		m.count.out += b.n
	}
	s.lane.busy = true
	if !s.dirty {
		s.dirty = true
		s.lane.dirty = append(s.lane.dirty, s)
	}
	m.watch(s)
	s.working = false
	m.schedule(s) // behind those that wait already
	m.dispatch()
	m.unblock()
}

func (m *machine) account(s *series, p pass, b *batch) {
	c, now := &m.count, m.minute()
	c.lists += p.lists
	c.seals += p.seals
	c.looks += p.looks
	now.requests += p.lists + p.looks + p.seals
	if b == nil {
		return
	}
	now.requests++
	now.bytes += p.bytes
	c.appends++
	c.archived += b.n
	c.line += float64(b.body)
	c.stored += p.bytes
	if p.begins {
		c.objects++
	}
	c.delay += m.now - b.first
	c.longest = max(c.longest, m.now-b.first)
}

// watch has the series looked at when it may have been idle, or open, for long
// enough.
func (m *machine) watch(s *series) {
	if s.inWheel || s.position == 0 || s.rule.rollIdle <= 0 && s.rule.rollAge <= 0 {
		return
	}
	at := s.written + s.rule.rollIdle
	if age := s.opened + s.rule.rollAge; s.rule.rollIdle <= 0 || s.rule.rollAge > 0 && age < at {
		at = age
	}
	s.inWheel = true
	key := max(int64((at+sweepEvery-1)/sweepEvery), int64(m.nextSweep/sweepEvery))
	m.wheel[key] = append(m.wheel[key], s)
}

// sweep seals what is idle or old.
func (m *machine) sweep() {
	key := int64(m.nextSweep / sweepEvery)
	m.nextSweep += sweepEvery
	due := m.wheel[key]
	delete(m.wheel, key)
	for _, s := range due {
		s.inWheel = false
		idle := s.rule.rollIdle > 0 && m.now-s.written >= s.rule.rollIdle
		old := s.rule.rollAge > 0 && m.now-s.opened >= s.rule.rollAge
		if s.working || len(s.queue) > 0 || s.position == 0 || !idle && !old ||
			s.lru == nil && s.lane.open >= s.lane.most && !m.makeRoom(s.lane) {
			m.watch(s)
			continue
		}
		m.open(s)
		s.seal = true
		m.start(s)
	}
}

// makeRoom forgets a series that has nothing to do for one that is to be sealed.
func (m *machine) makeRoom(l *lane) bool {
	for e := l.lru.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*series); !s.working && len(s.queue) == 0 {
			m.close(s)
			return true
		}
	}
	return false
}

// floors writes the lanes' entries, where something was archived.
func (m *machine) floors() {
	m.nextFloor += floorEvery
	for _, l := range m.lanes {
		if l.busy && m.day {
			m.count.laneWrites++
			m.minute().laneWrites++
		}
		l.busy = false
	}
}

// checkpoint writes tails that have moved, and takes out those of sealed series.
func (m *machine) checkpoint() {
	for _, l := range m.lanes {
		for _, s := range l.drops {
			if !s.spent {
				continue // it went on
			}
			if s.inLedger {
				s.inLedger = false
				if m.day {
					m.count.deletes++
				}
			}
			s.dirty = false
			if s.lru == nil {
				s.forget()
			}
		}
		l.drops = l.drops[:0]
		for _, s := range l.dirty {
			if !s.dirty {
				continue
			}
			s.dirty, s.inLedger = false, true
			if m.day {
				m.count.puts++
				m.minute().puts++
			}
		}
		l.dirty = l.dirty[:0]
	}
}

// drain sends everything that waits and returns when it is archived.
func (m *machine) drain() {
	for m.inFlight > 0 || len(m.timers) > 0 || len(m.blocked) > 0 {
		for len(m.timers) > 0 {
			m.start(heap.Pop(&m.timers).(*series))
		}
		if len(m.done) > 0 {
			m.advance(m.done[0].at)
		} else {
			m.unblock()
		}
	}
	m.checkpoint()
}
