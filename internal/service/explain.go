package service

import (
	"fmt"

	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/router"
)

// Destination says where one source would archive an event.
type Destination struct {
	Stream string `json:"stream"`
	router.Explanation
	Key string `json:"key,omitempty"` // of the series' first segment
}

// Explain says where m would go, for each source or for the one named. Sources
// that would not archive it are left out where another does.
func Explain(cfg *config.Config, stream string, m *router.Message) ([]Destination, error) {
	var taken, all []Destination
	for i, layout := range cfg.Layouts() {
		name := cfg.Sources[i].Stream
		if stream != "" && name != stream {
			continue
		}
		lane, ok := layout.LaneOf(m.Subject)
		if !ok {
			all = append(all, Destination{Stream: name, Explanation: router.Explanation{Subject: m.Subject, Skip: true, Earlier: []router.Miss{
				{Filter: m.Subject, Why: fmt.Sprintf("the first token of the subject must be a partition, 0 to %d", layout.Lanes-1)},
			}}})
			continue
		}
		r, err := router.NewLane(layout, lane)
		if err != nil {
			return nil, fmt.Errorf("sources[%d]: %w", i, err)
		}
		d := Destination{Stream: name, Explanation: r.Explain(m)}
		if d.Poison != "" {
			d.Key = event.Key(layout.Prefix, r.DeadSeries(), 1, event.Ext(event.Envelope, event.Gzip))
		}
		if d.Series != "" {
			for _, route := range layout.Routes {
				if route.Name == d.Route {
					format, err1 := event.ParseFormat(route.Format)
					codec, err2 := event.ParseCodec(route.Codec)
					if err1 == nil && err2 == nil {
						d.Key = event.Key(layout.Prefix, d.Series, 1, event.Ext(format, codec))
					}
				}
			}
		}
		all = append(all, d)
		if !d.Skip {
			taken = append(taken, d)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--stream %s: sources[].stream has no such stream in the configuration", stream)
	}
	if len(taken) > 0 {
		return taken, nil
	}
	return all, nil
}

// Timing says when a destination's batches are sent and its segments end; false
// where nothing would be written.
func Timing(cfg *config.Config, d *Destination) (config.Flush, config.Roll, bool) {
	for _, s := range cfg.Sources {
		if s.Stream != d.Stream || d.Skip {
			continue
		}
		if d.Poison != "" {
			return cfg.Defaults.Flush, cfg.Defaults.Roll, true // as dead letters are
		}
		for _, r := range s.Routes {
			if r.Name == d.Route {
				return r.Flush, r.Roll, true
			}
		}
	}
	return config.Flush{}, config.Roll{}, false
}
