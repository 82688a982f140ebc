package service

import (
	"context"
	"time"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/intake"
	"ossuary/internal/telemetry"
)

// Status is what a running service does at one moment.
type Status struct {
	From     string       `json:"from"` // instance, or ledger: what was written down by one that does not answer
	Archive  string       `json:"archive"`
	Owner    string       `json:"owner,omitempty"`
	Build    Build        `json:"build"`
	Started  time.Time    `json:"started,omitzero"`
	Draining bool         `json:"draining"`
	NATS     Server       `json:"nats"`
	OSS      Bucket       `json:"oss"`
	Memory   Memory       `json:"memory"`
	Lanes    []LaneStatus `json:"lanes"`

	Configuration *Reloads `json:"configuration,omitempty"`
}

// Where a Status comes from.
const (
	FromInstance = "instance"
	FromLedger   = "ledger"
)

// Server is the NATS server that the service is connected to.
type Server struct {
	URL       string `json:"url"`
	Version   string `json:"version"`
	Connected bool   `json:"connected"`
}

// Bucket is where the objects go.
type Bucket struct {
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	Prefix   string `json:"prefix"`
}

// Memory is what waiting events take, in bytes.
type Memory struct {
	Limit int64 `json:"limit"`
	Used  int64 `json:"used"`
	Held  int64 `json:"held"` // of used: in held series
}

// LaneStatus is one lane, with what this process has done for it.
type LaneStatus struct {
	intake.Status
	Archived   int64 `json:"archived"`    // events in confirmed appends
	Appends    int64 `json:"appends"`     // confirmed
	Bytes      int64 `json:"bytes"`       // stored by them
	OpenSeries int64 `json:"open_series"` // in memory; of a ledger, in it
	// The newest of them, those in trouble first.
	Series  []appendsink.Progress `json:"series,omitempty"`
	Updated time.Time             `json:"updated,omitzero"` // of a ledger: when the lane's owner last wrote
	Held    []appendsink.Hold     `json:"held,omitempty"`
	Broken  []BrokenSegment       `json:"broken,omitempty"` // the last ones since the process began
}

// Report is the service at this moment.
func (s *Service) Report() Status { return s.report(telemetry.MostSeries) }

// report has at most so many series of a lane.
func (s *Service) report(series int) Status {
	used, held := s.budget.Used()
	st := Status{
		From: FromInstance, Archive: s.cfg.Archive.Name, Owner: s.owner, Build: ReadBuild(), Started: s.started, Draining: s.isDraining(),
		NATS:   Server{URL: s.nc.ConnectedUrlRedacted(), Version: s.nc.ConnectedServerVersion(), Connected: s.nc.IsConnected()},
		OSS:    Bucket{Endpoint: s.cfg.OSS.Endpoint, Bucket: s.cfg.OSS.Bucket, Prefix: s.cfg.OSS.Prefix},
		Memory: Memory{Limit: s.budget.Limit(), Used: used, Held: held},
	}
	for _, l := range s.lanes {
		m := l.sinkMetrics
		ls := LaneStatus{
			Status: l.intake.Status(), Held: l.held(), Broken: l.left(),
			Archived: m.Events.Load(), Appends: m.Appends.Load(), Bytes: m.Bytes.Load(), OpenSeries: m.OpenSeries.Load(),
		}
		if set := l.sinks(); set != nil {
			ls.Series, _ = set.Progress(series)
		}
		st.Lanes = append(st.Lanes, ls)
	}
	return st
}

// Lanes implements telemetry's watched.
func (s *Service) Lanes() []intake.Status {
	out := make([]intake.Status, len(s.lanes))
	for i, l := range s.lanes {
		out[i] = l.intake.Status()
	}
	return out
}

// Connection implements telemetry's watched.
func (s *Service) Connection() (connected bool, reconnects uint64) {
	return s.nc.IsConnected(), s.nc.Stats().Reconnects
}

// routeNames are the routes that archive, by source.
func routeNames(cfg *config.Config) map[string][]string {
	names := map[string][]string{}
	for _, source := range cfg.Sources {
		for _, r := range source.Routes {
			if !r.Skip {
				names[source.Stream] = append(names[source.Stream], r.Name)
			}
		}
	}
	return names
}

// Status implements telemetry's subject.
func (s *Service) Status(series int) any { return s.report(series) }

func (s *Service) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// NotReady implements telemetry's subject. A lane that stands by is ready: it
// waits for another instance to stop, which must be able to wait for it in turn
// when instances are replaced one by one.
func (s *Service) NotReady() []telemetry.Reason {
	var out []telemetry.Reason
	if s.isDraining() {
		out = append(out, telemetry.Reason{What: "service", Name: s.cfg.Archive.Name, Reason: "stopping"})
	}
	if !s.nc.IsConnected() {
		out = append(out, telemetry.Reason{What: "nats", Name: s.cfg.Archive.Name, Reason: "not connected"})
	}
	for _, l := range s.lanes {
		st := l.intake.Status()
		name := st.Source + "/" + st.Lane
		if st.State != intake.Running && st.State != intake.Standby {
			why := string(st.State)
			if st.Reason != "" {
				why += ": " + st.Reason
			}
			if st.State == intake.Backoff && st.LastErr != "" {
				why += ": " + st.LastErr
			}
			out = append(out, telemetry.Reason{What: "lane", Name: name, Reason: why, Since: st.Since})
		}
		if st.State == intake.Running && st.Reason != "" {
			out = append(out, telemetry.Reason{What: "lane", Name: name, Reason: st.Reason})
		}
		if since := l.stalled(time.Now(), s.patience()); !since.IsZero() && len(l.held()) == 0 {
			out = append(out, telemetry.Reason{What: "store", Name: name, Reason: "events wait and no append goes through", Since: since})
		}
		for _, h := range l.held() {
			out = append(out, telemetry.Reason{What: "series", Name: name + " " + h.Series, Reason: h.Reason, Since: h.Since})
		}
	}
	return out
}

// Warnings implements telemetry's subject: what the NATS server does not let us
// do, and segments that had to be left since the process began. Archiving goes on in the next one, but what stood in them may be
// lost, and somebody else has written to the bucket or deleted from it.
func (s *Service) Warnings() []telemetry.Reason {
	out := s.denied.warnings()
	for _, l := range s.lanes {
		for _, b := range l.left() {
			out = append(out, telemetry.Reason{What: "segment", Name: b.Key, Since: b.Since,
				Reason: "left without a seal: " + b.Reason + "; run `consumer verify`, and find out who else writes to the bucket"})
		}
	}
	return out
}

// stallAfter is how long a lane with waiting events may get no append through
// before the archive is not ready. The sinks back off for less than that.
const stallAfter = 30 * time.Second

// patience leaves room for batches that wait for their linger.
func (s *Service) patience() time.Duration {
	linger := s.cfg.Defaults.Flush.Linger
	for _, source := range s.cfg.Sources {
		for _, r := range source.Routes {
			linger = max(linger, r.Flush.Linger)
		}
	}
	return stallAfter + 2*linger
}

// watch looks at the lanes until ctx ends.
func (s *Service) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, l := range s.lanes {
			l.look(time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
