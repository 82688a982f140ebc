// Package ledger keeps what the writers of an archive know in a NATS KV bucket:
// per lane the lease and the floor, per open series the tail. Values are JSON
// that a person reads with `nats kv get`.
//
// Every write is a compare-and-swap on the entry's revision. A write ends in one
// of three ways: done, ErrConflict, or unknown (ErrInDoubt: it may have landed,
// read again).
//
// The ledger is a checkpoint. Reads may be stale and the bucket may be rolled
// back or deleted; whoever uses it must be safe then, as the objects are the
// truth. An entry that cannot be read as JSON is therefore as good as none.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// BucketPrefix stands before the archive's name in the name of its bucket.
const BucketPrefix = "OSSUARY_"

// opTimeout bounds a single request to the server. A request that takes longer
// is in doubt; waiting on would only keep the caller from reading again.
const opTimeout = 5 * time.Second

// watchSilence is how long a watch may deliver nothing before it is given up. A
// deleted bucket ends no watch, it only falls silent.
const watchSilence = 10 * time.Second

var (
	// ErrConflict: the entry is not at the expected revision; nothing was written.
	ErrConflict = errors.New("ledger: the entry has changed")
	// ErrNewer: the entry was written by a later version of this program. It is
	// left alone: whoever gets this must not go on in that lane or series.
	ErrNewer = errors.New("ledger: the entry is of a newer version")
	// ErrNoBucket: the bucket does not exist (any more); nothing was written.
	ErrNoBucket = errors.New("ledger: the bucket does not exist")
	// ErrInDoubt: the write may or may not have landed, now or later.
	ErrInDoubt = errors.New("ledger: the write's outcome is unknown")
)

// Config names an archive's ledger.
type Config struct {
	Archive  string
	Replicas int  // of a bucket that Open creates; 0 means 1
	Create   bool // create the bucket if it does not exist
	Log      zerolog.Logger
}

// Ledger is the access to one archive's bucket. It is safe for concurrent use.
type Ledger struct {
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	bucket string
	log    zerolog.Logger
}

// TailEntry is a tail with the revision that a write has to name.
type TailEntry struct {
	Tail
	Revision uint64
}

// Entry is one entry of a listing: a lane's or a tail's.
type Entry struct {
	Key      string
	Source   string
	LaneName string
	Series   string // "" for a lane
	Revision uint64
	Lane     *Lane // one of Lane and Tail is set, neither if the value is unreadable
	Tail     *Tail
	Err      error           // why neither is: ErrNewer, or no JSON of this form
	Value    json.RawMessage // as it stands in the bucket
}

// Open binds to the archive's bucket, which it creates if cfg says so; without
// that a bucket that does not exist is ErrNoBucket.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Ledger, error) {
	l := &Ledger{js: js, bucket: BucketPrefix + cfg.Archive, log: cfg.Log}
	kv, err := l.bind(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) && cfg.Create {
		kv, err = l.create(ctx, max(cfg.Replicas, 1))
		if errors.Is(err, jetstream.ErrBucketExists) { // another instance was quicker, and asked for something else
			kv, err = l.bind(ctx)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return nil, fmt.Errorf("%w: %s", ErrNoBucket, l.bucket)
	case errors.Is(err, jetstream.ErrInvalidBucketName):
		return nil, fmt.Errorf("ledger: archive name %q: only letters, digits, - and _ can stand in a bucket's name", cfg.Archive)
	case err != nil:
		return nil, fmt.Errorf("opening the ledger %s: %w", l.bucket, err)
	}
	l.kv = kv
	return l, nil
}

func (l *Ledger) bind(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return l.js.KeyValue(ctx, l.bucket)
}

func (l *Ledger) create(ctx context.Context, replicas int) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return l.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:      l.bucket,
		Description: "Ossuary: positions and leases of the archive " + strings.TrimPrefix(l.bucket, BucketPrefix),
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	})
}

// Bucket is the name of the KV bucket.
func (l *Ledger) Bucket() string { return l.bucket }

// Lane reads a lane's entry. Revision 0 means that there is none; a revision
// with a zero Lane means that there is one, which cannot be read.
func (l *Ledger) Lane(ctx context.Context, source, lane string) (Lane, uint64, error) {
	var e Lane
	rev, err := l.get(ctx, laneKey(source, lane), func(p []byte) (err error) {
		e, err = parseLane(p)
		return err
	})
	return e, rev, err
}

// PutLane writes a lane's entry over the one with the given revision, 0 for none,
// and returns the new revision.
func (l *Ledger) PutLane(ctx context.Context, source, lane string, e Lane, rev uint64) (uint64, error) {
	e.Version = Version
	return l.put(ctx, laneKey(source, lane), e, rev)
}

// Tail reads a series' tail. Revision 0 means that there is none; a revision
// with a zero Tail means that there is one, which cannot be read.
func (l *Ledger) Tail(ctx context.Context, source, lane, series string) (Tail, uint64, error) {
	var e Tail
	rev, err := l.get(ctx, tailKey(source, lane, series), func(p []byte) (err error) {
		e, err = parseTail(p)
		return err
	})
	return e, rev, err
}

// PutTail writes a series' tail over the one with the given revision, 0 for none,
// and returns the new revision.
func (l *Ledger) PutTail(ctx context.Context, source, lane, series string, e Tail, rev uint64) (uint64, error) {
	e.Version = Version
	return l.put(ctx, tailKey(source, lane, series), e, rev)
}

// DeleteTail removes the tail with the given revision.
func (l *Ledger) DeleteTail(ctx context.Context, source, lane, series string, rev uint64) error {
	if rev == 0 {
		return fmt.Errorf("%w: deleting needs a revision", ErrConflict)
	}
	key := tailKey(source, lane, series)
	wctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if err := l.kv.Purge(wctx, key, jetstream.LastRevision(rev)); err != nil {
		return l.writeError(ctx, "deleting", key, err)
	}
	l.dropMarker(ctx, key)
	return nil
}

// dropMarker removes the marker that a deletion leaves: an archive makes new
// series every hour for years, and each would leave one. Nothing depends on its
// success. The marker is the key's last message; purging up to and with it takes
// nothing that was written after.
func (l *Ledger) dropMarker(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	subject := "$KV." + l.bucket + "." + key
	s, err := l.js.Stream(ctx, "KV_"+l.bucket)
	if err == nil {
		var m *jetstream.RawStreamMsg
		if m, err = s.GetLastMsgForSubject(ctx, subject); err == nil {
			if op := m.Header.Get("KV-Operation"); op != "PURGE" && op != "DEL" {
				return // written anew since
			}
			err = s.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(m.Sequence+1))
		}
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		l.log.Debug().Err(err).Str("key", key).Msg("marker of a deleted ledger entry stays")
	}
}

func (l *Ledger) get(ctx context.Context, key string, parse func([]byte) error) (uint64, error) {
	rctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	e, err := l.kv.Get(rctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		if l.gone(ctx) {
			return 0, fmt.Errorf("reading %s: %w", key, ErrNoBucket)
		}
		return 0, fmt.Errorf("ledger: reading %s: %w", key, err)
	}
	if err := parse(e.Value()); err != nil {
		if errors.Is(err, ErrNewer) {
			return 0, fmt.Errorf("reading %s: %w", key, err)
		}
		l.unreadable(key, err)
	}
	return e.Revision(), nil
}

func (l *Ledger) put(ctx context.Context, key string, v any, rev uint64) (uint64, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("ledger: encoding %s: %w", key, err)
	}
	wctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if rev == 0 {
		rev, err = l.kv.Create(wctx, key, p)
	} else {
		rev, err = l.kv.Update(wctx, key, p, rev)
	}
	if err != nil {
		return 0, l.writeError(ctx, "writing", key, err)
	}
	return rev, nil
}

// writeError tells the ways apart in which a write fails. What is no clear
// answer of the server is in doubt.
func (l *Ledger) writeError(ctx context.Context, doing, key string, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return fmt.Errorf("%s %s: %w", doing, key, ErrConflict)
	case errors.As(err, &api):
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return fmt.Errorf("%s %s: %w", doing, key, ErrConflict)
		case jetstream.JSErrCodeStreamNotFound:
			return fmt.Errorf("%s %s: %w", doing, key, ErrNoBucket)
		}
		return fmt.Errorf("ledger: %s %s: %w", doing, key, err)
	case errors.Is(err, jetstream.ErrInvalidKey):
		return fmt.Errorf("ledger: %s %s: %w", doing, key, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		// Nobody took the message: the bucket is gone, or has no leader now.
		if l.gone(ctx) {
			return fmt.Errorf("%s %s: %w", doing, key, ErrNoBucket)
		}
		return fmt.Errorf("ledger: %s %s: %w", doing, key, err)
	}
	return fmt.Errorf("%s %s: %w: %w", doing, key, ErrInDoubt, err)
}

// gone asks whether the bucket does not exist any more. No answer means no.
func (l *Ledger) gone(ctx context.Context) bool {
	_, err := l.bind(ctx)
	return errors.Is(err, jetstream.ErrBucketNotFound)
}

func (l *Ledger) unreadable(key string, err error) {
	l.log.Warn().Err(err).Str("key", key).Msg("ledger entry is unreadable and taken for none")
}

func parseLane(p []byte) (Lane, error) {
	var e Lane
	if err := parse(p, &e); err != nil {
		return Lane{}, err
	}
	return e, nil
}

func parseTail(p []byte) (Tail, error) {
	var e Tail
	if err := parse(p, &e); err != nil {
		return Tail{}, err
	}
	if e.Key == "" || e.Segment < 1 || e.Position < 0 {
		return Tail{}, errors.New("no tail: key, segment or position is missing")
	}
	return e, nil
}

// parse looks at the version first: the rest of a newer entry may have any form.
func parse(p []byte, into any) error {
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(p, &v); err != nil {
		return err
	}
	switch {
	case v.Version > Version:
		return fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, v.Version, Version)
	case v.Version < 1:
		return errors.New("no version")
	}
	return json.Unmarshal(p, into)
}
