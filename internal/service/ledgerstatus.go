package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/intake"
	"ossuary/internal/ledger"
	"ossuary/internal/telemetry"
)

// LedgerReader shows what the ledger says of an archive. It needs NATS only.
type LedgerReader struct{ a *Archive }

// OpenLedger connects to the archive's ledger. With embedded servers it uses those
// of a running service, or starts them for as long as it takes.
func OpenLedger(ctx context.Context, cfg *config.Config, log zerolog.Logger) (_ *LedgerReader, err error) {
	a := &Archive{Name: cfg.Archive.Name, Prefix: cfg.OSS.Prefix}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if cfg.Embedded.Enabled {
		if a.local, err = borrowLocal(cfg, log); err != nil {
			return nil, err
		}
	}
	if a.nc, a.JS, err = ConnectNATS(ctx, cfg, log); err != nil {
		return nil, err
	}
	if a.Ledger, err = ledger.Open(ctx, a.JS, ledger.Config{Archive: cfg.Archive.Name, Log: log}); err != nil {
		return nil, err
	}
	return &LedgerReader{a}, nil
}

// Close ends what was opened.
func (r *LedgerReader) Close() { r.a.Close() }

// Status is what the ledger says, and how far the streams are beyond it.
func (r *LedgerReader) Status(ctx context.Context) (*Status, error) {
	all, err := r.a.Ledger.All(ctx)
	if err != nil {
		return nil, err
	}
	st := &Status{From: FromLedger, Archive: r.a.Name, Build: ReadBuild(), Lanes: []LaneStatus{},
		NATS: Server{URL: r.a.nc.ConnectedUrlRedacted(), Version: r.a.nc.ConnectedServerVersion(), Connected: true}}
	index := map[[2]string]int{}
	lane := func(e *ledger.Entry) *LaneStatus {
		key := [2]string{e.Source, e.LaneName}
		i, known := index[key]
		if !known {
			i = len(st.Lanes)
			index[key] = i
			st.Lanes = append(st.Lanes, LaneStatus{Status: intake.Status{Source: e.Source, Lane: e.LaneName, State: intake.Stopped}})
		}
		return &st.Lanes[i]
	}
	for i := range all {
		e := &all[i]
		l := lane(e)
		switch {
		case e.Lane != nil:
			l.Owner, l.Epoch, l.Incarnation = e.Lane.Owner, e.Lane.Epoch, e.Lane.Incarnation
			l.Floor, l.FloorTime, l.Updated = e.Lane.Floor, e.Lane.FloorTime, e.Lane.Updated
			l.Delivered, l.Since = e.Lane.Tally.Events, e.Lane.Updated
			if l.Owner != "" && time.Since(l.Updated) < inUse {
				l.State = intake.Running
			}
		case e.Tail != nil:
			t := e.Tail
			l.OpenSeries++
			l.Series = append(l.Series, appendsink.Progress{Series: e.Series, Route: t.Route, Key: t.Key, Segment: t.Segment,
				Position: t.Position, Last: t.Last, Written: t.Written})
		case errors.Is(e.Err, ledger.ErrNewer):
			return nil, fmt.Errorf("%s: %w; use that version of Ossuary", e.Key, e.Err)
		default:
			l.LastErr = fmt.Sprintf("%s is unreadable: %v", e.Key, e.Err)
		}
	}
	for i := range st.Lanes {
		l := &st.Lanes[i]
		slices.SortFunc(l.Series, func(a, b appendsink.Progress) int { return b.Written.Compare(a.Written) })
		l.Series = l.Series[:min(len(l.Series), telemetry.MostSeries)]
		if l.Pending, err = r.beyond(ctx, l.Source, l.Floor); err != nil {
			l.LastErr = err.Error()
		}
	}
	return st, nil
}

// beyond is how many messages of the stream come after a floor, at most.
func (r *LedgerReader) beyond(ctx context.Context, stream string, floor uint64) (uint64, error) {
	s, err := r.a.JS.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, fmt.Errorf("the stream %s does not exist any more", stream)
	}
	if err != nil {
		return 0, fmt.Errorf("looking at stream %s: %w", stream, err)
	}
	state := s.CachedInfo().State
	return min(state.Msgs, state.LastSeq-min(state.LastSeq, floor)), nil
}
