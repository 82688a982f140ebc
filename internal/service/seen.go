package service

import (
	"context"
	"io"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/telemetry"
)

// seen is a bucket whose requests are counted. It changes nothing about them.
type seen struct {
	bucket
	metrics *telemetry.Metrics
}

func (s seen) ended(op string, began time.Time, err error) {
	s.metrics.Request(op, time.Since(began), err)
}

func (s seen) Append(ctx context.Context, key string, position int64, body []byte, c *object.Create) (object.Appended, error) {
	began := time.Now()
	a, err := s.bucket.Append(ctx, key, position, body, c)
	s.ended(telemetry.OpAppend, began, err)
	return a, err
}

func (s seen) Head(ctx context.Context, key string) (object.Info, error) {
	began := time.Now()
	i, err := s.bucket.Head(ctx, key)
	s.ended(telemetry.OpHead, began, err)
	return i, err
}

func (s seen) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	began := time.Now()
	r, err := s.bucket.Read(ctx, key, from, to)
	s.ended(telemetry.OpRead, began, err)
	return r, err
}

func (s seen) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	began := time.Now()
	var own error // of fn; the store has done its part
	err := s.bucket.List(ctx, prefix, func(e object.Entry) error {
		own = fn(e)
		return own
	})
	if own != nil {
		s.ended(telemetry.OpList, began, nil)
		return err
	}
	s.ended(telemetry.OpList, began, err)
	return err
}
