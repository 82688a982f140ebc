package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/objectstore"
)

// Archive is what the commands that read an archive share: its objects, and,
// where they can be reached, its ledger and the streams it was made of.
type Archive struct {
	Name   string // "" for a copy without its configuration
	Prefix string
	Store  archive.Store
	Ledger *ledger.Ledger // nil: not reachable, or a copy
	JS     jetstream.JetStream

	nc     *nats.Conn
	client *objectstore.Client
	dir    *archive.Dir
	local  *Local

	probers []*prober
}

// OpenDir opens a copy of an archive in a directory, with nothing else.
func OpenDir(dir, prefix string) (*Archive, error) {
	d, err := archive.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("--dir %s: %w; name the directory that holds the objects", dir, err)
	}
	return &Archive{Prefix: prefix, Store: d, dir: d}, nil
}

// OpenArchive opens the archive of the configuration. The store must answer;
// NATS need not, since an archive must be readable without it: what then cannot
// be compared is logged. With embedded servers it uses those of a running
// service, or starts them for as long as it takes.
func OpenArchive(ctx context.Context, cfg *config.Config, log zerolog.Logger) (_ *Archive, err error) {
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
	if a.client, err = OpenStore(cfg, log); err != nil {
		return nil, err
	}
	if err := reachStore(ctx, cfg, a.client); err != nil {
		return nil, err
	}
	a.Store = a.client
	nc, js, err := ConnectNATS(ctx, cfg, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.Warn().Err(err).Msg("without NATS the ledger and the streams are not compared")
		return a, nil
	}
	a.nc, a.JS = nc, js
	l, err := ledger.Open(ctx, js, ledger.Config{Archive: cfg.Archive.Name, Log: log})
	switch {
	case errors.Is(err, ledger.ErrNoBucket):
		log.Warn().Str("bucket", ledger.BucketPrefix+cfg.Archive.Name).Msg("there is no ledger")
	case err != nil:
		log.Warn().Err(err).Msg("the ledger cannot be read")
	default:
		a.Ledger = l
	}
	return a, nil
}

// HasLocal reports whether embedded servers have kept objects under dir.
func HasLocal(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, storeDir))
	return err == nil
}

// borrowLocal starts the embedded servers on their data, unless a running
// service has them: then nil, and cfg says where they are.
func borrowLocal(cfg *config.Config, log zerolog.Logger) (*Local, error) {
	if !HasLocal(cfg.Embedded.DataDir) {
		return nil, fmt.Errorf("embedded.data_dir %s: nothing was archived there yet; start `consumer run`, or name a configuration with --config", cfg.Embedded.DataDir)
	}
	l, err := StartLocalAnywhere(cfg, log.Level(zerolog.WarnLevel))
	if errors.Is(err, errInUse) {
		joinLocal(cfg)
		return nil, nil
	}
	return l, err
}

// Reader reads the archive's events.
func (a *Archive) Reader() *archive.Reader {
	return &archive.Reader{Store: a.Store, Prefix: a.Prefix, Archive: a.Name}
}

// Verify proves the archive, see archive.Verify.
func (a *Archive) Verify(ctx context.Context, removedBefore time.Time, progress func(done, total int64)) (*archive.Report, error) {
	o := archive.Options{Archive: a.Name, Prefix: a.Prefix, Store: a.Store, RemovedBefore: removedBefore, Progress: progress}
	if a.Ledger != nil {
		o.Ledger = a.Ledger
	}
	if a.JS != nil {
		o.Probe = a.probe
		defer func() {
			for _, p := range a.probers {
				p.close(ctx)
			}
			a.probers = nil
		}()
	}
	return archive.Verify(ctx, o)
}

// probe asks the stream of that identity, if there is still one.
func (a *Archive) probe(ctx context.Context, id event.StreamID) (archive.Prober, error) {
	s, err := a.JS.Stream(ctx, id.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", id.Name, err)
	}
	if !s.CachedInfo().Created.Equal(id.Created) {
		return nil, nil // another life of the stream: it can say nothing of this one
	}
	p := newProber(s)
	a.probers = append(a.probers, p)
	return p, nil
}

// Close ends what was opened.
func (a *Archive) Close() {
	if a.nc != nil {
		a.nc.Close()
	}
	if a.client != nil {
		a.client.Close()
	}
	if a.dir != nil {
		_ = a.dir.Close() // only read
	}
	if a.local != nil {
		a.local.Close()
	}
}
