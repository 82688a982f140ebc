package appendsink

import "time"

// sweep has segments sealed that nothing was appended to for their route's
// roll.idle, or that are older than roll.age: those of open series, and those
// that only the ledger still knows. Series named after a time end this way.
func (t *Set) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining || !t.loaded {
		return
	}
	wake := false
	for _, s := range t.series {
		if s.working || s.forgot || len(s.queue) > 0 || s.tail == nil || s.tail.position == 0 {
			continue
		}
		var roll Roll
		switch {
		case s.spec != nil:
			roll = s.spec.Roll
		case t.opt.RouteRoll != nil: // opened to be sealed, which it was not
			roll = t.opt.RouteRoll(s.route)
		}
		if s.sealWhy = overdue(roll, s.tail.written, s.tail.opened, now); s.sealWhy != "" {
			wake = t.schedule(s) || wake
		}
	}
	if t.opt.RouteRoll != nil {
		for name, e := range t.known {
			if t.series[name] != nil || e.Position == 0 {
				continue
			}
			why := overdue(t.opt.RouteRoll(e.Route), e.Written, e.Opened, now)
			if why == "" || len(t.series) >= t.opt.OpenSeries && !t.makeRoom() {
				continue
			}
			s := t.openKnown(name)
			s.sealWhy = why
			wake = t.schedule(s) || wake
		}
	}
	if wake {
		t.poke()
	}
}

// makeRoom forgets the least recently used series that has nothing to do. Where
// series are named after a time, more of them end than can be open: nobody would
// ever forget one for those that wait to be sealed. t.mu is held.
func (t *Set) makeRoom() bool {
	for e := t.lru.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*series); !s.working && len(s.queue) == 0 && !s.forgot && s.sealWhy == "" {
			t.close(s)
			return true
		}
	}
	return false
}

func overdue(r Roll, written, opened, now time.Time) string {
	switch {
	case r.Idle > 0 && now.Sub(written) >= r.Idle:
		return whyIdle
	case r.Age > 0 && !opened.IsZero() && now.Sub(opened) >= r.Age:
		return whyAge
	}
	return ""
}
