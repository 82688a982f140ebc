package router

import (
	"fmt"
	"slices"
	"strings"
)

// Explanation is Resolve with its reasons, for people.
type Explanation struct {
	Subject  string  `json:"subject"`
	Lane     string  `json:"lane"`
	Route    string  `json:"route,omitempty"`  // "" if none takes the subject
	Filter   string  `json:"filter,omitempty"` // the one of its subjects that matched
	Template string  `json:"template,omitempty"`
	Series   string  `json:"series,omitempty"`
	Skip     bool    `json:"skip,omitempty"`
	Poison   string  `json:"poison,omitempty"`
	Parts    []Value `json:"parts,omitempty"`   // of the template
	Earlier  []Miss  `json:"earlier,omitempty"` // the filters before, and why they did not match
}

// Value is a part of a template and what it became.
type Value struct {
	Part   string `json:"part"` // as written
	Value  string `json:"value"`
	Reason string `json:"reason,omitempty"` // why there is none
}

// Miss is a filter that did not match.
type Miss struct {
	Route  string `json:"route"`
	Filter string `json:"filter"`
	Why    string `json:"why"`
}

// Explain resolves m and says how it came to the result.
func (r *Router) Explain(m *Message) Explanation {
	e := Explanation{Subject: m.Subject, Lane: r.lane}
	subj, ok := r.strip(m.Subject)
	if !ok {
		e.Skip = true
		e.Earlier = []Miss{{Why: "the subject's first token is not the number of this lane"}}
		return e
	}
	tokens := strings.Split(subj, ".")
	var hit *filterOf
	for i := range r.filters {
		f := &r.filters[i]
		why := mismatch(f.subject, tokens)
		if why == "" {
			hit = f
			break
		}
		e.Earlier = append(e.Earlier, Miss{r.layout.Routes[f.route].Name, f.subject, why})
	}
	t := r.Resolve(m)
	e.Series, e.Skip, e.Poison = t.Series, t.Skip, t.Poison
	if hit == nil {
		return e
	}
	route := r.layout.Routes[hit.route]
	e.Route, e.Filter, e.Template = route.Name, hit.subject, route.Series
	if route.Skip {
		e.Template = ""
		return e
	}
	if n := r.layout.room(); n > 0 && t.Series != "" {
		e.Parts = append(e.Parts, Value{Part: fmt.Sprintf("shard of %d digits", r.layout.Shard), Value: t.Series[:n]})
	}
	for _, p := range r.routes[hit.route].parts {
		v := Value{Part: p.name}
		if p.kind != literal {
			v.Part = "{{" + p.name + "}}"
		}
		var out []byte
		if out, v.Reason = p.append(nil, m, subj, hit.subject, tokens); v.Reason == "" {
			v.Value = string(out)
		}
		e.Parts = append(e.Parts, v)
	}
	return e
}

// LaneOf is the lane whose router takes the subject.
func (l Layout) LaneOf(subj string) (string, bool) {
	if l.Lanes <= 1 {
		return FirstLane, true
	}
	lane, _, ok := strings.Cut(subj, ".")
	return lane, ok && slices.Contains(l.LaneNames(), lane)
}
