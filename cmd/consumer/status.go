package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"ossuary/internal/config"
	"ossuary/internal/intake"
	"ossuary/internal/service"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		asJSON, watch, fromLedger bool
		every                     time.Duration
		series                    int
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running service does, or what the ledger says where none runs",
		Long: `status asks the service at http.listen of the configuration: its lanes with owner,
floor, lag and freshness, and the series that it writes, those in trouble first.
Where no service answers it reads the same from the ledger, as far as that was
written down. It prints tables on a terminal and JSON elsewhere; --json=false
prints tables anywhere.

freshness is the time since the newest archived event of the lane was published;
with a lag of 0 nothing newer is there. It exits 2 if neither answers.`,
		Example: `  consumer status
  consumer status --watch --config ossuary.yaml
  consumer status --json | jq '.lanes[] | {source, lane, floor, pending}'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := a.load(c)
			if err != nil {
				return err
			}
			if every <= 0 {
				return errors.New("--interval must be above 0")
			}
			s := &statusSource{cfg: cfg, log: log, onlyLedger: fromLedger}
			defer s.close()
			tables := isTerminal(a.stdout)
			if c.Flags().Changed("json") {
				tables = !asJSON
			}
			for {
				st, body, err := s.read(c.Context())
				switch {
				case err != nil:
				case tables:
					if watch && isTerminal(a.stdout) {
						fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
					}
					a.printStatus(st, time.Now(), series)
				default:
					_, err = fmt.Fprintf(a.stdout, "%s\n", body)
				}
				if watch && c.Context().Err() != nil {
					return nil // it ends so
				}
				if err != nil || !watch {
					return err
				}
				t := time.NewTimer(every)
				select {
				case <-c.Context().Done():
					t.Stop()
					return nil
				case <-t.C:
				}
			}
		},
	}
	flags := c.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON (the default where no terminal is)")
	flags.BoolVarP(&watch, "watch", "w", false, "again and again, until interrupted")
	flags.DurationVar(&every, "interval", 2*time.Second, "with --watch: the `TIME` between")
	flags.BoolVar(&fromLedger, "ledger", false, "read the ledger, whether a service answers or not")
	flags.IntVar(&series, "series", 20, "`NUMBER` of series to show per lane")
	return c
}

// statusSource is where a status is read from: the service, or else the ledger.
type statusSource struct {
	cfg        *config.Config
	log        zerolog.Logger
	onlyLedger bool
	ledger     *service.LedgerReader
}

func (s *statusSource) close() {
	if s.ledger != nil {
		s.ledger.Close()
	}
}

// read returns the status, and as it is printed for programs.
func (s *statusSource) read(ctx context.Context) (*service.Status, string, error) {
	noService := errors.New("--ledger")
	if !s.onlyLedger {
		var body string
		if body, noService = s.ask(ctx); noService == nil {
			st := new(service.Status)
			if err := json.Unmarshal([]byte(body), st); err != nil || st.Archive == "" {
				return nil, "", fmt.Errorf("http.listen %s: what answers there is no Ossuary; correct http.listen, or use --ledger", s.cfg.HTTP.Listen)
			}
			if st.Archive != s.cfg.Archive.Name {
				return nil, "", fmt.Errorf("http.listen %s: what answers there archives %q, not %q; name its configuration with --config, or use --ledger", s.cfg.HTTP.Listen, st.Archive, s.cfg.Archive.Name)
			}
			return st, body, nil
		}
	}
	if s.ledger == nil {
		var err error
		if s.ledger, err = service.OpenLedger(ctx, s.cfg, s.log); err != nil {
			if s.onlyLedger {
				return nil, "", err
			}
			return nil, "", fmt.Errorf("%w; and the ledger cannot be read: %w", noService, err)
		}
	}
	st, err := s.ledger.Status(ctx)
	if err != nil {
		return nil, "", err
	}
	body, err := json.MarshalIndent(st, "", "  ")
	return st, string(body), err
}

// ask is what the service answers. An error means that none does.
func (s *statusSource) ask(ctx context.Context) (string, error) {
	url, err := serviceURL(s.cfg)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/status", http.NoBody)
	if err != nil {
		return "", fmt.Errorf("http.listen %q: %w", s.cfg.HTTP.Listen, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("http.listen %s: no service answers: %w; start it with `consumer run`", s.cfg.HTTP.Listen, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return "", fmt.Errorf("http.listen %s: %w", s.cfg.HTTP.Listen, err)
	}
	return strings.TrimSpace(string(body)), nil
}

func (a *app) printStatus(st *service.Status, now time.Time, series int) {
	if st.From == service.FromLedger {
		fmt.Fprintf(a.stdout, "archive %s, from the ledger at %s: no service answers here\n", st.Archive, st.NATS.URL)
	} else {
		state := ""
		if st.Draining {
			state = ", stopping"
		}
		if !st.NATS.Connected {
			state += ", NOT CONNECTED"
		}
		fmt.Fprintf(a.stdout, "archive %s, %s, %s, up %s%s\n", st.Archive, st.Owner, st.Build.Version, span(now.Sub(st.Started)), state)
		fmt.Fprintf(a.stdout, "NATS %s, OSS %s bucket %s prefix %q, memory %s of %s\n", st.NATS.URL, st.OSS.Endpoint, st.OSS.Bucket, st.OSS.Prefix,
			humanize.IBytes(uint64(max(0, st.Memory.Used))), humanize.IBytes(uint64(max(0, st.Memory.Limit))))
	}
	fmt.Fprintln(a.stdout)
	t := a.table("source", "lane", "state", "owner", "epoch", "floor", "lag", "freshness", "archived", "appends", "series")
	t.SetColumnConfigs(right(5, 6, 7, 8, 9, 10, 11))
	for i := range st.Lanes {
		l := &st.Lanes[i]
		owner := l.Owner
		if owner == "" {
			owner = "(none)"
		}
		archived, appends := humanize.Comma(l.Archived), humanize.Comma(l.Appends)
		if st.From == service.FromLedger {
			archived, appends = count(l.Delivered), ""
		}
		t.AppendRow([]any{l.Source, l.Lane, laneState(st, l, now), owner, l.Epoch, l.Floor, count(l.Pending + uint64(max(0, l.Open))), freshness(l, now), archived, appends, l.OpenSeries})
	}
	t.Render()
	for i := range st.Lanes {
		l := &st.Lanes[i]
		if l.Reason != "" || l.LastErr != "" {
			fmt.Fprintf(a.stdout, "%s/%s: %s\n", l.Source, l.Lane, strings.Trim(l.Reason+": "+l.LastErr, ": "))
		}
		for _, b := range l.Broken {
			fmt.Fprintf(a.stdout, "%s/%s: segment %s was left without a seal: %s\n", l.Source, l.Lane, b.Key, b.Reason)
		}
	}
	a.printSeries(st, now, series)
}

func (a *app) printSeries(st *service.Status, now time.Time, most int) {
	t := a.table("source", "lane", "series", "segment", "position", "last", "events/s", "waiting", "written", "last error")
	t.SetColumnConfigs(right(4, 5, 6, 7, 8))
	rows, left := 0, 0
	for i := range st.Lanes {
		l := &st.Lanes[i]
		shown := l.Series[:min(most, len(l.Series))]
		left += int(l.OpenSeries) - len(shown)
		for _, p := range shown {
			rate, trouble := fmt.Sprintf("%.1f", p.Rate), p.Held
			switch {
			case trouble != "":
				trouble = "HELD: " + trouble
			case p.LastErr != "":
				trouble = fmt.Sprintf("%s ago: %s", span(now.Sub(p.ErrTime)), p.LastErr)
			}
			if st.From == service.FromLedger {
				rate = ""
			}
			t.AppendRow([]any{l.Source, l.Lane, p.Series, p.Segment, humanize.Comma(p.Position), p.Last, rate, humanize.IBytes(uint64(max(0, p.Waiting))), ago(p.Written), trouble})
			rows++
		}
	}
	if rows > 0 {
		fmt.Fprintln(a.stdout)
		t.Render()
	}
	if left > 0 {
		fmt.Fprintf(a.stdout, "%s more; --series shows up to 100 per lane\n", humanize.Comma(int64(left)))
	}
}

// laneState is a lane's state in words.
func laneState(st *service.Status, l *service.LaneStatus, now time.Time) string {
	if st.From != service.FromLedger {
		if l.Since.IsZero() {
			return string(l.State)
		}
		return fmt.Sprintf("%s for %s", l.State, span(now.Sub(l.Since)))
	}
	switch {
	case l.Updated.IsZero():
		return "unknown"
	case l.State == intake.Running:
		return fmt.Sprintf("owned, written %s ago", span(now.Sub(l.Updated)))
	case l.Owner == "":
		return fmt.Sprintf("released %s ago", span(now.Sub(l.Updated)))
	}
	return fmt.Sprintf("abandoned %s ago", span(now.Sub(l.Updated)))
}

// freshness is the age of the newest archived event.
func freshness(l *service.LaneStatus, now time.Time) string {
	if l.FloorTime.IsZero() {
		return ""
	}
	return span(now.Sub(l.FloorTime))
}

// span is a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
