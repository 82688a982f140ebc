package service

import (
	"context"
	"io"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/telemetry"
	"ossuary/internal/tracing"
)

// seen is a bucket whose requests are counted, and traced where they are made for
// a batch. It changes nothing about them.
type seen struct {
	bucket
	metrics *telemetry.Metrics
	tracing *tracing.Tracing // nil: off
}

func (s seen) ended(op string, began time.Time, err error, traced func(error)) {
	s.metrics.Request(op, time.Since(began), err)
	if traced != nil {
		traced(err)
	}
}

func (s seen) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	ctx, traced := s.tracing.Request(ctx, telemetry.OpAppend, key, position, int64(body.Len()))
	began := time.Now()
	a, err := s.bucket.Append(ctx, key, position, body, c)
	s.ended(telemetry.OpAppend, began, err, traced)
	return a, err
}

func (s seen) Head(ctx context.Context, key string) (object.Info, error) {
	ctx, traced := s.tracing.Request(ctx, telemetry.OpHead, key, 0, 0)
	began := time.Now()
	i, err := s.bucket.Head(ctx, key)
	s.ended(telemetry.OpHead, began, err, traced)
	return i, err
}

func (s seen) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	ctx, traced := s.tracing.Request(ctx, telemetry.OpRead, key, from, to-from)
	began := time.Now()
	r, err := s.bucket.Read(ctx, key, from, to)
	s.ended(telemetry.OpRead, began, err, traced)
	return r, err
}

func (s seen) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	ctx, traced := s.tracing.Request(ctx, telemetry.OpList, prefix, 0, 0)
	began := time.Now()
	var own error // of fn; the store has done its part
	err := s.bucket.List(ctx, prefix, func(e object.Entry) error {
		own = fn(e)
		return own
	})
	if own != nil {
		s.ended(telemetry.OpList, began, nil, traced)
		return err
	}
	s.ended(telemetry.OpList, began, err, traced)
	return err
}
