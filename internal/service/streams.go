package service

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
)

// ensureStream returns what the server says of the i-th source's stream, and
// creates it if it is missing and the configuration says how.
func ensureStream(ctx context.Context, js jetstream.JetStream, cfg *config.Config, i int, log zerolog.Logger) (*jetstream.StreamInfo, error) {
	source := &cfg.Sources[i]
	stream, err := js.Stream(ctx, source.Stream)
	switch {
	case err == nil:
		return stream.CachedInfo(), nil
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("sources[%d].stream %s: %w; the user needs $JS.API.STREAM.INFO.%s", i, source.Stream, err, source.Stream)
	case source.Create == nil:
		return nil, fmt.Errorf("sources[%d].stream %s: %w; create it (nats stream add %s), correct the name, or let Ossuary create it with sources[%d].create", i, source.Stream, err, source.Stream, i)
	}
	sc, err := streamConfig(source)
	if err != nil {
		return nil, fmt.Errorf("sources[%d].create: %w", i, err)
	}
	stream, err = js.CreateStream(ctx, sc)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance was quicker
		stream, err = js.Stream(ctx, source.Stream)
	}
	if err != nil {
		return nil, fmt.Errorf("sources[%d].create: creating stream %s: %w; correct its subjects and limits, or create the stream yourself", i, source.Stream, err)
	}
	log.Info().Str("stream", source.Stream).Strs("subjects", sc.Subjects).Str("storage", sc.Storage.String()).Msg("stream created")
	return stream.CachedInfo(), nil
}

func streamConfig(source *config.Source) (jetstream.StreamConfig, error) {
	c := source.Create
	sc := jetstream.StreamConfig{
		Name: source.Stream, Subjects: c.Subjects,
		Replicas: max(1, c.Replicas), MaxAge: c.MaxAge, MaxBytes: c.MaxBytes,
		// Advisories come without a reply to acknowledge to.
		NoAck: len(c.Subjects) > 0 && allUnder(c.Subjects, "$JS."),
	}
	if sc.MaxBytes == 0 {
		sc.MaxBytes = -1
	}
	switch c.Storage {
	case "", "file":
		sc.Storage = jetstream.FileStorage
	case "memory":
		sc.Storage = jetstream.MemoryStorage
	default:
		return sc, fmt.Errorf("storage %q: use file or memory", c.Storage)
	}
	switch c.Retention {
	case "", "limits":
		sc.Retention = jetstream.LimitsPolicy
	case "interest":
		sc.Retention = jetstream.InterestPolicy
	case "workqueue":
		sc.Retention = jetstream.WorkQueuePolicy
	default:
		return sc, fmt.Errorf("retention %q: use limits, interest or workqueue", c.Retention)
	}
	return sc, nil
}

func allUnder(subjects []string, prefix string) bool {
	for _, s := range subjects {
		if !strings.HasPrefix(s, prefix) {
			return false
		}
	}
	return true
}
