package appendsink

import (
	"context"
	"strconv"
	"time"

	"ossuary/internal/event"
)

// overtakenDir, below the lane's dead letters, has a series for each overtaken
// event. They turn up in no order, and a series takes rising sequences only.
const overtakenDir = "/overtaken/"

// So many dead letters are logged in so much time. Each stands in the archive with
// its reason; a producer that sends nothing else shall not fill the disk with words.
const deadLogged, deadEvery = 10, time.Minute

// AddDead hands over an event that cannot be archived under its route, by the
// layout of that number.
func (t *Set) AddDead(ctx context.Context, layout int, e *event.Event, reason, route string, slot uint64) error {
	t.m.DeadLetters.Add(1)
	t.deadLog.Warn().Uint64("sequence", e.Sequence).Str("subject", e.Subject).Str("route", route).Str("reason", reason).
		Msg("event goes to the dead letters; a metric counts them, few are logged")
	return t.add(ctx, t.opt.Dead(layout), e, slot, func(dst []byte) ([]byte, error) {
		return event.AppendDeadLetter(dst, e, reason, route), nil
	})
}

// addOvertaken is AddDead for a worker: it never waits for memory, since the
// worker holds some itself. The event keeps its slot.
func (t *Set) addOvertaken(e *event.Event, spec *Spec, slot uint64) {
	t.m.Overtaken.Add(1)
	t.m.DeadLetters.Add(1)
	sp := *t.opt.Dead(spec.Layout)
	sp.Series += overtakenDir + strconv.FormatUint(e.Sequence, 10)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open(&sp)
	_, _ = t.fill(s, &sp, e, slot, func(dst []byte) ([]byte, error) {
		return event.AppendDeadLetter(dst, e, "overtaken: another writer archived later events of its series without it, "+
			"since it was gone from the stream by then", spec.Route), nil
	})
}
