package main

// runOn lets one writer after the other run alone from s, without further faults,
// and says why not everything is archived in the end.
func (x *world) runOn(from *state) (inv, why string, steps []string) {
	for i := range x.writers {
		for _, talk := range []bool{false, true} {
			s := *from
			x.talk = talk
			inv, why, steps = x.alone(&s, i)
			x.talk = false
			if inv == "" {
				break
			}
		}
		if inv != "" {
			return inv, why, steps
		}
	}
	return "", "", nil
}

func (x *world) alone(s *state, i int) (inv, why string, steps []string) {
	for j := range x.writers {
		if j != i {
			x.down(s, j)
		}
	}
	x.said = ""
	for range 150 {
		if x.talk && x.said != "" {
			steps = append(steps, x.said)
		}
		x.said = ""
		if s.wrong == beyond {
			return "", "", nil
		}
		w := &s.w[i]
		if w.up == 0 {
			s.used.switched = 0
			x.start(s, i, false, false)
			continue
		}
		busy := false
		for n := range uint8(x.series) {
			a := x.at(s, i, n)
			if k := a.k; k.pc == idle && k.queue == 0 {
				continue
			}
			x.say("W%d", x.who[i])
			switch k := a.k; k.pc {
			case look:
				a.attempt(false)
			case forward:
				a.forwardStep(0)
			case wait:
				a.answered(x.apply(s, k.req), false)
			default:
				a.take()
				a.attempt(false)
			}
			busy = true
			break
		}
		if busy {
			continue
		}
		x.said = ""
		if w.created != s.created || w.deaf == 1 {
			x.down(s, i) // the consumer is gone
		} else if e := x.handable(s, i); e >= 0 {
			x.hand(s, i, e)
		} else if x.ahead > 0 && w.handed < x.lastSeq() && x.needs(s, i) && s.ctl.inc == w.inc && w.horizon < x.lastSeq() {
			x.raise(s, i)
		} else if inv, what := x.broken(s, true); inv != "" {
			return inv, what, append(steps, x.picture(s))
		} else if left := s.stream &^ s.acked &^ s.dead; left != 0 {
			if x.ahead > 0 && w.horizon < x.lastSeq() {
				x.raise(s, i)
				if s.w[i].up == 0 {
					continue
				}
			}
			if w.handed < x.lastEver(s) {
				continue
			}
			return invLive, "never archived: " + x.names(left), append(steps, x.picture(s))
		} else {
			return "", "", nil
		}
	}
	return invLive, "it goes on for ever", append(steps, x.picture(s))
}

// lastEver is the highest sequence in the stream.
func (x *world) lastEver(s *state) (q uint8) {
	for e := range x.events {
		if s.stream&(1<<e) != 0 {
			q = max(q, x.events[e].seq)
		}
	}
	return q
}
