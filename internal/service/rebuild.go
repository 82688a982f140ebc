package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/ledger"
)

// inUse is how recently a lane's entry must have been renewed for its owner to
// be taken for alive.
const inUse = 30 * time.Second

// RebuildResult says what a rebuild made.
type RebuildResult struct {
	Bucket   string            `json:"bucket"`
	Lanes    int               `json:"lanes"`
	Tails    int               `json:"tails"`
	Problems []archive.Finding `json:"problems"`
}

// RebuildLedger makes the ledger anew from the objects. A service that runs
// meanwhile loses nothing, but its lease; so it is refused unless forced.
func RebuildLedger(ctx context.Context, cfg *config.Config, a *Archive, force bool, log zerolog.Logger, progress func(done, total int64)) (*RebuildResult, error) {
	bucket := ledger.BucketPrefix + cfg.Archive.Name
	old := map[string]ledger.Lane{} // by source and lane
	if a.Ledger != nil {
		lanes, err := a.Ledger.Lanes(ctx)
		if err != nil {
			return nil, fmt.Errorf("ledger bucket %s: %w", bucket, err)
		}
		for _, e := range lanes {
			switch {
			case errors.Is(e.Err, ledger.ErrNewer):
				return nil, fmt.Errorf("ledger bucket %s: %s: %w; use that version of Ossuary", bucket, e.Key, e.Err)
			case e.Lane == nil:
				continue
			case !force && e.Lane.Owner != "" && time.Since(e.Lane.Updated) < inUse:
				return nil, fmt.Errorf("ledger bucket %s: %s reads stream %s, lane %s, %s ago; stop it, or use --force (it goes on by itself)",
					bucket, e.Lane.Owner, e.Source, e.LaneName, time.Since(e.Lane.Updated).Round(time.Second))
			}
			old[e.Source+"\x00"+e.LaneName] = *e.Lane
		}
	}
	// Read first: what fails here has changed nothing.
	made, err := archive.Rebuild(ctx, a.Store, a.Prefix, a.Name, progress)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(ctx, a.JS, ledger.Config{Archive: cfg.Archive.Name, Replicas: ledgerReplicas(ctx, cfg, a), Create: true, Log: log})
	if err != nil {
		return nil, fmt.Errorf("ledger bucket %s: %w", bucket, err)
	}
	if err := l.Purge(ctx); err != nil {
		return nil, err
	}
	r := &RebuildResult{Bucket: bucket, Problems: made.Problems}
	for _, m := range made.Lanes {
		e := m.Entry
		if o, ok := old[m.Source+"\x00"+m.Lane]; ok {
			// They name consumers and order lease holders, and are in no object.
			e.Epoch, e.Counter = o.Epoch, o.Counter+1
		}
		e.Updated = time.Now().UTC()
		if _, err := l.PutLane(ctx, m.Source, m.Lane, e, 0); err != nil && !errors.Is(err, ledger.ErrConflict) {
			return nil, fmt.Errorf("writing stream %s, lane %s: %w; run the rebuild again", m.Source, m.Lane, err)
		}
		r.Lanes++
	}
	for _, m := range made.Tails {
		// A conflict means that a running service was quicker and knows more.
		if _, err := l.PutTail(ctx, m.Source, m.Lane, m.Series, m.Entry, 0); err != nil && !errors.Is(err, ledger.ErrConflict) {
			return nil, fmt.Errorf("writing series %s: %w; run the rebuild again", m.Series, err)
		}
		r.Tails++
	}
	return r, nil
}

// ledgerReplicas is what the configuration says, or as many as the first source
// has that can be asked.
func ledgerReplicas(ctx context.Context, cfg *config.Config, a *Archive) int {
	if cfg.Ledger.Replicas > 0 {
		return cfg.Ledger.Replicas
	}
	for _, s := range cfg.Sources {
		if stream, err := a.JS.Stream(ctx, s.Stream); err == nil {
			return stream.CachedInfo().Config.Replicas
		}
	}
	return 1
}
