package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"ossuary/internal/archive"
)

// mostDifferences is how many of the differences a Proof names.
const mostDifferences = 20

// Proof is a comparison of the archive with the target.
type Proof struct {
	Equal       uint64   `json:"equal"`       // events that stand in the target as they were archived
	Missing     uint64   `json:"missing"`     // that are not there
	Different   uint64   `json:"different"`   // that are there, but not as they were archived
	Doubled     uint64   `json:"doubled"`     // that are there again
	Disordered  uint64   `json:"disordered"`  // that come behind later ones
	Others      uint64   `json:"others"`      // messages that are not among the selected events
	Damaged     uint64   `json:"damaged"`     // places of the archive that could not be read
	Differences []string `json:"differences"` // the first of all these, in words
}

// Holds reports whether the target holds every selected event once, in order, and
// as it was archived.
func (p *Proof) Holds() bool {
	return p.Missing+p.Different+p.Doubled+p.Disordered+p.Damaged == 0
}

func (p *Proof) tell(n *uint64, format string, args ...any) {
	*n++
	if len(p.Differences) < mostDifferences {
		p.Differences = append(p.Differences, fmt.Sprintf(format, args...))
	}
}

// Prove reads the archive and the whole target side by side and compares subjects,
// headers, payloads, times and order. progress may be nil.
func Prove(ctx context.Context, o Options, progress func(compared uint64)) (*Proof, error) {
	from := origin{o.Archive, o.Source}
	t, err := openTarget(ctx, o.JS, o.Target)
	if err != nil {
		return nil, err
	}
	if !t.keeps() {
		return nil, fmt.Errorf("stream %s forgets what was consumed (%s retention): nothing can be proven of it", t.name, t.info.Config.Retention)
	}
	p := &Proof{Differences: []string{}}
	next, stop := iter.Pull2(o.Events(ctx))
	defer stop()

	// due is the archived event that must come next.
	var due *archive.Record
	at := func() place { return place{due.Incarnation, due.Sequence} }
	advance := func() error {
		for {
			rec, err, ok := next()
			due = nil
			var damage *archive.DamageError
			switch {
			case !ok:
				return nil
			case errors.As(err, &damage):
				p.tell(&p.Damaged, "%s", damage)
				continue
			case err != nil:
				return err
			}
			due = rec
			return nil
		}
	}
	if err := advance(); err != nil {
		return nil, err
	}
	seen := newDone()
	var greatest place
	_, err = t.read(ctx, 1, false, func(m *stored) error {
		is, ours := from.placeOf(m.header)
		if !ours {
			p.Others++
			return nil
		}
		if seen.has(is) {
			p.tell(&p.Doubled, "%s stands at %d again", is, m.sequence)
			return nil
		}
		seen.add(is)
		if is.compare(greatest) < 0 {
			p.tell(&p.Disordered, "%s stands at %d, behind %s", is, m.sequence, greatest)
			return nil
		}
		greatest = is
		for due != nil && at().compare(is) < 0 {
			p.tell(&p.Missing, "%s is missing before %d", at(), m.sequence)
			if err := advance(); err != nil {
				return err
			}
		}
		if due == nil || at() != is {
			p.Others++
			return nil
		}
		what, err := differs(due, o.Mapper, m)
		if err != nil {
			return err
		}
		if what != "" {
			p.tell(&p.Different, "%s stands at %d with %s", is, m.sequence, what)
		} else {
			p.Equal++
		}
		if progress != nil {
			progress(p.Equal + p.Different)
		}
		return advance()
	})
	if err != nil {
		return nil, err
	}
	for due != nil {
		p.tell(&p.Missing, "%s is missing", at())
		if err := advance(); err != nil {
			return nil, err
		}
	}
	return p, nil
}
