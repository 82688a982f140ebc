package replay

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"ossuary/internal/router"
)

// Mapper gives events other subjects. The zero Mapper leaves them as they are.
type Mapper struct{ rules []rule }

type rule struct {
	from, to  string
	transform transform
}

// transform is the server's, whose type it does not export.
type transform interface {
	Match(subject string) (string, error)
	TransformSubject(subject string) string
}

// NewMapper reads rules FROM=TO in the form of NATS subject mappings, of which the
// first whose FROM matches a subject maps it: orders.>=restored.orders.>, or
// orders.*.*=old.{{wildcard(2)}}.{{wildcard(1)}}. Subjects that none matches stay.
func NewMapper(rules []string) (*Mapper, error) {
	m := &Mapper{}
	for _, s := range rules {
		from, to, ok := strings.Cut(s, "=")
		if !ok || from == "" || to == "" {
			return nil, fmt.Errorf("%q: use FROM=TO, as in 'orders.>=restored.orders.>'", s)
		}
		if err := router.CheckFilter(from); err != nil {
			return nil, fmt.Errorf("%q: %s: %w", s, from, err)
		}
		if strings.Contains(to, "{{random(") {
			return nil, fmt.Errorf("%q: random() would map an event differently each time; use another function", s)
		}
		t, err := server.NewSubjectTransform(from, to)
		if err != nil {
			return nil, fmt.Errorf("%q: %w; TO ends in > if FROM does, and takes the wildcards of FROM as {{wildcard(1)}}", s, err)
		}
		m.rules = append(m.rules, rule{from, to, t})
	}
	return m, nil
}

// Map is the subject under which an event is published.
func (m *Mapper) Map(subject string) string {
	if m == nil {
		return subject
	}
	for _, r := range m.rules {
		if to, err := r.transform.Match(subject); err == nil {
			return to
		}
	}
	return subject
}

// Filters is filters that contain what the subjects that are in filters are mapped
// to, none of which collide: subjects for a stream that takes them all.
func (m *Mapper) Filters(filters []string) []string {
	var out []string
	for _, f := range filters {
		stays := true
		for _, r := range m.rules {
			switch {
			case router.Contains(r.from, f):
				out = append(out, r.transform.TransformSubject(f))
				stays = false
			case router.Collide(r.from, f):
				out = append(out, r.transform.TransformSubject(r.from))
				continue
			default:
				continue
			}
			break
		}
		if stays {
			out = append(out, f)
		}
	}
	return router.Union(out)
}
