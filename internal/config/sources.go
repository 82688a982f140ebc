package config

import (
	"fmt"
	"strings"

	"ossuary/internal/router"
)

func (v *validator) sources() {
	c := v.config
	if len(c.Sources) == 0 {
		v.bad("sources", "there is no source", "name a stream and its routes")
	}
	sound := true
	for i := range c.Sources {
		before := len(v.problems)
		v.source(i)
		sound = sound && len(v.problems) == before
	}
	if !sound {
		return
	}
	for i := range c.Sources {
		for j := range i {
			v.twoSources(j, i)
		}
	}
}

func (v *validator) source(i int) {
	s, path := v.config.Sources[i], fmt.Sprintf("sources[%d]", i)
	switch {
	case s.Stream == "":
		v.bad(path+".stream", "the stream has no name", "name it")
	case strings.ContainsAny(s.Stream, " \t\r\n.*>/\\") || len(s.Stream) > 255:
		v.bad(path+".stream", fmt.Sprintf("%q is no name of a stream", s.Stream), "write it as `nats stream ls` shows it")
	}
	if s.Lanes < 1 {
		v.bad(path+".lanes", fmt.Sprintf("%d lanes", s.Lanes), fmt.Sprintf("use 1, or the number of partitions, at most %d", router.MaxLanes))
	}
	if s.Create != nil {
		v.create(path+".create", s.Create)
	}
	for j, r := range s.Routes {
		rp := fmt.Sprintf("%s.routes[%d]", path, j)
		if r.Skip {
			continue
		}
		v.flush(rp+".flush", r.Flush, r.Roll)
		v.roll(rp+".roll", r.Roll)
	}
	if s.Stream == "" || s.Lanes < 1 {
		return // the layout would only say so again
	}
	for _, p := range router.Check(v.config.layout(i)) {
		at := path
		switch {
		case p.Route >= 0:
			at = fmt.Sprintf("%s.routes[%d]", path, p.Route)
			if p.Field != "" {
				at += "." + p.Field
			}
		case p.Field == "prefix", p.Field == "shard":
			if i > 0 {
				continue
			}
			at = map[string]string{"prefix": "oss.prefix", "shard": "oss.shard_prefix"}[p.Field]
		case p.Field != "":
			at += "." + p.Field
		}
		if p.Warning {
			v.warn(at, p.What, p.Mend)
			continue
		}
		pl, what := v.where(at), p.What
		if p.Column > 0 {
			if pl.text > 0 {
				pl.column, pl.width = pl.text+p.Column-1, 1
			} else {
				what = fmt.Sprintf("column %d of the template: %s", p.Column, what)
			}
		}
		v.report(at, pl, what, p.Mend)
	}
}

func (v *validator) create(path string, c *Create) {
	if len(c.Subjects) == 0 {
		v.bad(path+".subjects", "the stream would have no subject", "name at least one, as in orders.>")
	}
	for i, s := range c.Subjects {
		if err := router.CheckFilter(s); err != nil {
			v.bad(fmt.Sprintf("%s.subjects[%d]", path, i), err.Error(), "write a NATS subject, as in orders.>")
		}
	}
	v.oneOf(path+".storage", c.Storage, "file", "memory")
	v.oneOf(path+".retention", c.Retention, "limits", "interest", "workqueue")
	if c.Replicas < 1 || c.Replicas > 5 {
		v.bad(path+".replicas", fmt.Sprintf("%d replicas", c.Replicas), "use 1 to 5")
	}
	v.lasts(path+".max_age", c.MaxAge, 0)
	v.atLeast(path+".max_bytes", c.MaxBytes, 0, "")
	if c.Storage == "memory" {
		v.warn(path+".storage", "a stream in memory loses what is not archived when its server stops", "use file")
	}
}

func (v *validator) twoSources(j, i int) {
	c := v.config
	path := fmt.Sprintf("sources[%d]", i)
	if c.Sources[i].Stream == c.Sources[j].Stream {
		v.bad(path+".stream", fmt.Sprintf("sources[%d] is the stream %s too", j, c.Sources[j].Stream), "put the routes of a stream into one source")
		return
	}
	if a, b, ok := router.SourcesMeet(c.layout(j), c.layout(i)); ok {
		v.bad(fmt.Sprintf("%s.routes[%d].series", path, b),
			fmt.Sprintf("route %q of stream %s can write the same series, and a series belongs to one stream", c.Sources[j].Routes[a].Name, c.Sources[j].Stream),
			"begin the names with {{stream}}/ or with different words")
	}
}
