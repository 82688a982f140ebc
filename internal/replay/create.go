package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Create makes the target unless it is there: in files, keeping everything. Its
// subjects are given, or those that the archived ones are mapped to.
func Create(ctx context.Context, o Options, subjects, archived []string, replicas int) (created bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err = o.JS.Stream(ctx, o.Target)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, fmt.Errorf("looking at stream %s: %w", o.Target, err)
	}
	if len(subjects) == 0 {
		if len(archived) == 0 {
			return false, errors.New("the archive has no layout that says which subjects its events have: name those of the new stream")
		}
		subjects = o.Mapper.Filters(archived)
	}
	_, err = o.JS.CreateStream(ctx, jetstream.StreamConfig{
		Name: o.Target, Subjects: subjects, Storage: jetstream.FileStorage, Replicas: replicas, AllowDirect: true,
		Description: fmt.Sprintf("replayed from the archive %s of stream %s", o.Archive, o.Source),
	})
	if err != nil {
		return false, fmt.Errorf("creating stream %s for %v: %w; if another stream has these subjects, map them to others", o.Target, subjects, err)
	}
	return true, nil
}
