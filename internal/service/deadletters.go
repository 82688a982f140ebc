package service

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"ossuary/internal/archive"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/redrive"
)

// Deads says which dead letters are wanted. The zero Deads wants all.
type Deads struct {
	Stream    string // of the source; "": any
	Routes    []string
	Reason    string // part of it
	Selection archive.Selection
}

func (d *Deads) takes(source string, l *redrive.Letter) bool {
	return (d.Stream == "" || source == d.Stream) && (len(d.Routes) == 0 || slices.Contains(d.Routes, l.Route)) &&
		strings.Contains(l.Reason, d.Reason)
}

// DeadLetter is one of them, with what became of it.
type DeadLetter struct {
	Source string
	*redrive.Letter
	redrive.State
}

// DeadLetters yields the dead letters of the archive, series by series. A
// *archive.DamageError concerns a part of the archive only.
func (a *Archive) DeadLetters(ctx context.Context, d Deads) iter.Seq2[*DeadLetter, error] {
	return func(yield func(*DeadLetter, error) bool) {
		logs := map[string]*redrive.Log{}
		d.Selection.Dead = true
		for r, err := range a.Reader().Cat(ctx, d.Selection) {
			var l *redrive.Letter
			if err == nil {
				l, err = letterOf(r)
			}
			var damage *archive.DamageError
			if err != nil {
				if !yield(nil, err) || !errors.As(err, &damage) {
					return
				}
				continue
			}
			if !d.takes(r.Source, l) {
				continue
			}
			log := logs[r.Source]
			if log == nil {
				if log, err = redrive.OpenLog(ctx, onlyRead{a.Store}, a.Name, a.Prefix, r.Source, ""); err != nil {
					yield(nil, err)
					return
				}
				logs[r.Source] = log
			}
			if !yield(&DeadLetter{Source: r.Source, Letter: l, State: log.Of(l.Name)}, nil) {
				return
			}
		}
	}
}

// letterOf is the letter that a record holds; it shares nothing with it.
func letterOf(r *archive.Record) (*redrive.Letter, error) {
	line := event.Line{}
	if err := event.DecodeLine(slices.Clone(r.Line), &line); err != nil {
		return nil, &archive.DamageError{Finding: archive.Finding{Source: r.Source, Series: r.Series, Key: r.Key, Position: r.Position,
			What: fmt.Sprintf("sequence %d: %v", r.Sequence, err)}}
	}
	return &redrive.Letter{Name: redrive.Name{Incarnation: r.Incarnation, Sequence: r.Sequence}, Series: r.Series,
		Event: line.Event, Reason: line.Reason, Route: line.Route}, nil
}

// onlyRead is a store for a log that nobody writes to.
type onlyRead struct{ archive.Store }

func (onlyRead) Append(context.Context, string, int64, object.Body, *object.Create) (object.Appended, error) {
	return object.Appended{}, errors.New("this archive is only read")
}

// archivedAgain finds the letters of a source that the archive holds again, among
// the events behind a sequence: as events, and as dead letters once more.
func (a *Archive) archivedAgain(ctx context.Context, source string, after uint64) (map[redrive.Name]uint64, error) {
	found := map[redrive.Name]uint64{}
	for _, dead := range []bool{false, true} {
		sel := archive.Selection{Dead: dead}
		if after > 0 {
			sel.From = after + 1
		}
		for r, err := range a.Reader().Cat(ctx, sel) {
			if err != nil {
				return nil, err
			}
			if r.Source != source || r.Format == event.Raw || !strings.Contains(string(r.Line), redrive.HeaderID) {
				continue
			}
			l, err := r.Event()
			if err != nil {
				return nil, err
			}
			for _, id := range l.Header[redrive.HeaderID] {
				if n, ok := redrive.ParseID(id, a.Name, source); ok {
					found[n] = r.Sequence
				}
			}
		}
	}
	return found, nil
}
