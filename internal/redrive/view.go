package redrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// view is what a letter's publisher knows of the stream.
type view struct {
	after   uint64    // the letter can only stand behind this sequence
	last    uint64    // last sequence of its subject, 0 if none
	end     uint64    // last sequence of the stream
	created time.Time // of the stream
	whole   bool      // nothing behind after has left the stream
}

// view looks through the stream for letters on l's subject. In the order that
// keeps asks for: what is made a condition of the publish is asked for first.
func (s *Sender) view(ctx context.Context, l *Letter, keeps bool) (v view, err error) {
	st := s.o.Log.Of(l.Name)
	info := func() error {
		i, err := s.stream.Info(ctx)
		if err != nil {
			return fmt.Errorf("looking at stream %s: %w", s.o.Source, err)
		}
		v.end, v.created = i.State.LastSeq, i.Created
		// A stream that was made anew, or set back, hands out sequences again.
		same := i.Created.Equal(st.Life) && i.State.LastSeq >= st.After
		if v.after = st.After; !same {
			v.after = 0
		}
		v.whole = same && i.State.FirstSeq <= st.After+1 && keepsAll(&i.Config)
		return nil
	}
	if !keeps {
		if err := info(); err != nil {
			return v, err
		}
	} else {
		v.after = st.After
	}
	if v.last, _, err = s.messageAt(ctx, query{Last: l.Subject}); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return v, err
	}
	if err := s.scan(ctx, l.Subject, v.after, v.last); err != nil {
		return v, err
	}
	if keeps {
		if err := info(); err != nil {
			return v, err
		}
	}
	return v, nil
}

// scan remembers the letters on a subject between two sequences.
func (s *Sender) scan(ctx context.Context, subject string, after, to uint64) error {
	sp, known := s.scanned[subject]
	if !known || after < sp.from || after > sp.to || to < sp.to { // the last: the stream was set back
		sp = span{after, after}
	}
	for sp.to < to {
		seq, h, err := s.messageAt(ctx, query{Next: subject, Sequence: sp.to + 1})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			sp.to = to // it has left since
			break
		}
		if err != nil {
			return err
		}
		if n, ok := ParseID(h.Get(HeaderID), s.o.Archive, s.o.Source); ok {
			if _, met := s.found[n]; !met {
				s.found[n] = seq
			}
		}
		sp.to = seq
	}
	s.scanned[subject] = sp
	return nil
}

// query asks for one message: the last of a subject, or the next of it from a
// sequence on.
type query struct {
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Sequence uint64 `json:"seq,omitempty"`
}

// messageAt is a message's sequence and headers; ErrMsgNotFound if there is none.
// It asks the leader, since a replica may lag.
func (s *Sender) messageAt(ctx context.Context, q query) (uint64, nats.Header, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return 0, nil, fmt.Errorf("asking for a message: %w", err)
	}
	o := s.o.JS.Options()
	ctx, cancel := context.WithTimeout(ctx, o.DefaultTimeout)
	defer cancel()
	m, err := s.o.JS.Conn().RequestWithContext(ctx, apiPrefix(o)+"STREAM.MSG.GET."+s.o.Source, body)
	if err != nil {
		return 0, nil, fmt.Errorf("asking stream %s for a message: %w", s.o.Source, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
		} `json:"message"`
	}
	err = json.Unmarshal(m.Data, &answer)
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("reading the server's answer: %w", err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return 0, nil, fmt.Errorf("asking stream %s for a message: %w", s.o.Source, answer.Error)
	case answer.Message == nil:
		return 0, nil, jetstream.ErrInvalidJetStreamResponse
	}
	// Headers that are none, which anybody may publish, are no letter's.
	h, err := nats.DecodeHeadersMsg(answer.Message.Header)
	if err != nil {
		h = nats.Header{}
	}
	return answer.Message.Sequence, h, nil
}

func apiPrefix(o jetstream.JetStreamOptions) string {
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// keepsAll reports whether messages leave the stream from its front only.
func keepsAll(c *jetstream.StreamConfig) bool {
	return c.Retention == jetstream.LimitsPolicy && c.MaxMsgsPerSubject <= 0 && !c.AllowMsgTTL
}

// condition makes the server take m only if what v says still holds.
func condition(m *nats.Msg, keeps bool, v view) {
	m.Header.Del(jetstream.ExpectedLastSeqHeader)
	m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	if keeps {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(v.last, 10))
	} else {
		m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(v.end, 10))
	}
}

// overtaken reports whether the condition did not hold any more.
func overtaken(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// answered reports whether it is clear that nothing was stored.
func answered(err error) bool {
	var api *jetstream.APIError
	for _, e := range []error{jetstream.ErrNoStreamResponse, nats.ErrNoResponders, nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrHeadersNotSupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &api)
}

// subjects finds the subject to publish to for one that a message is to have.
type subjects struct {
	takes     []string
	transform server.SubjectTransformer // nil: none
	lanes     int
}

func newSubjects(c *jetstream.StreamConfig, lanes int) (subjects, error) {
	s := subjects{takes: c.Subjects, lanes: lanes}
	if t := c.SubjectTransform; t != nil && t.Destination != "" {
		tr, err := server.NewSubjectTransform(t.Source, t.Destination)
		if err != nil {
			return s, fmt.Errorf("its subject transform from %q to %q: %w", t.Source, t.Destination, err)
		}
		s.transform = tr
	}
	return s, nil
}

// publish is the subject that the stream stores as subject.
func (s *subjects) publish(subject string) (string, error) {
	candidates := []string{subject}
	if _, rest, ok := strings.Cut(subject, "."); ok && s.lanes > 1 {
		candidates = append(candidates, rest) // the partition was put there by the stream
	}
	for _, c := range candidates {
		if !slices.ContainsFunc(s.takes, func(filter string) bool { return server.SubjectsCollide(filter, c) }) {
			continue
		}
		stored := c
		if s.transform != nil {
			if t, err := s.transform.Match(c); err == nil {
				stored = t
			}
		}
		if stored == subject {
			return c, nil
		}
	}
	return "", refused("the stream takes no message that it would store as %s; it takes %s", subject, strings.Join(s.takes, ", "))
}
