package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"ossuary/internal/archive"
	"ossuary/internal/replay"
	"ossuary/internal/service"
)

// Without a terminal replay says how far it is this often.
const replayLogEvery = 10 * time.Second

// replayFlags is what the command was told.
type replayFlags struct {
	from    where
	which   selection
	o       replay.Options
	natsURL string
	maps    []string

	create   bool
	subjects []string
	replicas int
	noDead   bool
	verify   bool
	asJSON   bool
}

func (a *app) replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Publish archived events to a stream again, each once, and prove it",
		Long: `replay publishes archived events of one stream to a JetStream stream, in the order
in which their stream had them, with their subjects (or mapped ones), headers and
payloads. Headers Ossuary-* say where each comes from.

Each event is published once, however often replay is run: what is in the target
is left out, and the server takes each message only behind the one before. After
an interruption run the same command again.

Exit status 1: the archive is damaged, or --verify found a difference.`,
		Example: `  consumer replay --stream ORDERS --to RESTORED --map 'orders.>=restored.orders.>' --create --verify
  consumer replay --subject 'orders.eu.*' --since 2h --to REPAIR --map 'orders.*.*=repair.{{wildcard(2)}}' --rate 500
  consumer replay --dir ./copy-of-the-bucket --nats nats://other:4222 --to ORDERS --create --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.replay(c, &f) },
	}
	f.from.flags(c)
	f.which.flags(c)
	flags := c.Flags()
	flags.StringVar(&f.o.Target, "to", "", "the `STREAM` to publish to")
	flags.StringArrayVar(&f.maps, "map", nil, "publish subjects FROM as TO, as in NATS: `'orders.>=restored.orders.>'`; may be repeated, the first match counts")
	flags.Float64Var(&f.o.Rate, "rate", 0, "at most `N` events per second")
	flags.StringVar(&f.o.State, "state", "", "`FILE` that remembers what was replayed, should the target forget it; saves reading the target from its start")
	flags.BoolVar(&f.o.DryRun, "dry-run", false, "say what would be published, and publish nothing")
	flags.BoolVar(&f.verify, "verify", false, "compare the target with the archive afterwards, event by event")
	flags.BoolVar(&f.create, "create", false, "create the target unless it is there")
	flags.StringArrayVar(&f.subjects, "create-subject", nil, "with --create: a `SUBJECT` of the new stream, may be repeated (default: the archived ones, mapped)")
	flags.IntVar(&f.replicas, "replicas", 1, "with --create: `N` replicas")
	flags.BoolVar(&f.o.Alone, "alone", false, "nobody else publishes to the target: makes a replicated one faster (always so for one that --create makes)")
	flags.BoolVar(&f.noDead, "no-dead", false, "leave out dead letters, which were events of the stream too")
	flags.BoolVar(&f.o.Force, "skip-damage", false, "go on behind damage of the archive instead of stopping before it")
	flags.StringVar(&f.natsURL, "nats", "", "`URL` of the server to publish to (default: nats.url of the configuration)")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	_ = c.MarkFlagRequired("to")
	return c
}

func (a *app) replay(c *cobra.Command, f *replayFlags) (err error) {
	ctx, o := c.Context(), &f.o
	sel, err := f.which.selection()
	if err != nil {
		return err
	}
	if o.Rate < 0 {
		return errors.New("--rate must not be negative")
	}
	if f.noDead && sel.Dead {
		return errors.New("--dead and --no-dead exclude each other; give one")
	}
	sel.WithDead = !f.noDead
	if o.Mapper, err = replay.NewMapper(f.maps); err != nil {
		return fmt.Errorf("--map %w", err)
	}
	_, log, err := a.load(c)
	if err != nil {
		return err
	}
	o.Log = log
	arch, err := a.open(c, &f.from)
	if err != nil {
		return err
	}
	defer arch.Close()
	found, err := a.chooseEvents(ctx, arch, sel, f)
	if err != nil {
		return err
	}
	if found == nil {
		return errors.New("there is no such event in the archive: nothing to replay")
	}
	nc, err := a.target(c, arch, f)
	if err != nil {
		return err
	}
	defer nc()
	if f.create && !o.DryRun {
		subjects, err := arch.Reader().Subjects(ctx, o.Source)
		if err != nil {
			return err
		}
		created, err := replay.Create(ctx, *o, f.subjects, subjects, f.replicas)
		if err != nil {
			return fmt.Errorf("--create: %w", err)
		}
		if created {
			o.Alone = true
			o.Log.Info().Str("stream", o.Target).Msg("stream created")
		}
	}
	result, err := a.runReplay(ctx, o, found)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("--to %s: there is no such stream: correct it, or give --create", o.Target)
	}
	var damage *archive.DamageError
	if errors.As(err, &damage) {
		_ = a.printReplay(f, &result, nil)
		fmt.Fprintf(a.stderr, "damage: %s\nWhat stands before it was replayed. Mend it and run this again, or give --skip-damage.\n", damage)
		return errFound
	}
	if err != nil {
		if result.Published > 0 && !o.DryRun {
			fmt.Fprintf(a.stderr, "%s events were published before this\n", count(result.Published))
		}
		return err
	}
	var proof *replay.Proof
	if f.verify && !o.DryRun {
		if proof, err = a.proveReplay(ctx, o); err != nil {
			return fmt.Errorf("--verify: %w", err)
		}
	}
	if err := a.printReplay(f, &result, proof); err != nil {
		return err
	}
	if result.Damaged > 0 || proof != nil && !proof.Holds() {
		return errFound
	}
	return nil
}

// chooseEvents finds the one stream of which events are selected; nil if there are
// none.
func (a *app) chooseEvents(ctx context.Context, arch *service.Archive, sel archive.Selection, f *replayFlags) (*archive.Reader, error) {
	reader := arch.Reader()
	snapshot, err := reader.Snapshot(ctx, sel)
	if err != nil {
		return nil, err
	}
	sources, err := snapshot.Sources(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(sources) == 0:
		return nil, nil
	case len(sources) > 1:
		return nil, fmt.Errorf("the archive holds events of several streams (%s): choose one with --stream", strings.Join(sources, ", "))
	}
	snapshot = snapshot.Of(sources[0])
	raw, err := snapshot.Raw(ctx)
	if err != nil {
		return nil, err
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("series %s holds raw events, whose subjects and headers are not in the archive: they cannot be published as they were; select other series with --series or --subject", raw[0])
	}
	for r, err := range snapshot.Merge(ctx) {
		var damage *archive.DamageError
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f.o.Archive = r.Archive
		break
	}
	if f.o.Archive == "" {
		return nil, nil
	}
	f.o.Source, f.o.Events = sources[0], snapshot.Merge
	return reader, nil
}

// target connects to where events are published; the function ends what it began.
func (a *app) target(c *cobra.Command, arch *service.Archive, f *replayFlags) (end func(), err error) {
	cfg, log, err := a.load(c)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Sources {
		if f.natsURL == "" && cfg.Sources[i].Stream == f.o.Target {
			log.Warn().Str("stream", f.o.Target).Msg("this configuration archives the target: what is replayed into it is archived again, as new events")
		}
	}
	if arch.JS != nil && f.natsURL == "" {
		f.o.JS = arch.JS
		return func() {}, nil
	}
	if f.natsURL != "" {
		cfg.NATS.URLs = strings.Split(f.natsURL, ",")
	}
	nc, js, err := service.ConnectNATS(c.Context(), cfg, log)
	if err != nil {
		if f.natsURL != "" {
			return nil, fmt.Errorf("--nats %s: %w", f.natsURL, err)
		}
		return nil, err
	}
	f.o.JS = js
	return nc.Close, nil
}

func (a *app) runReplay(ctx context.Context, o *replay.Options, reader *archive.Reader) (replay.Result, error) {
	bar := a.progress(-1, "looking at "+o.Target, false)
	defer bar.Finish() //nolint:errcheck // only drawing
	o.Looking = func(at, last uint64) {
		bar.ChangeMax64(int64(last))
		_ = bar.Set64(int64(at))
	}
	o.Started = func(uint64) { bar.Reset() }
	reader.Progress = func(done, total int64) {
		bar.ChangeMax64(max(total, 1))
		_ = bar.Set64(done)
	}
	shown := time.Now()
	o.Sent = func(r replay.Result) {
		switch {
		case !isTerminal(a.stderr):
			if time.Since(shown) > replayLogEvery {
				shown = time.Now()
				o.Log.Info().Uint64("published", r.Published).Uint64("there_already", r.Already).Time("stream_time", r.Last).Msg("replaying")
			}
		case time.Since(shown) > 100*time.Millisecond:
			shown = time.Now()
			bar.Describe(fmt.Sprintf("published %s, there already %s, bytes read", count(r.Published), count(r.Already)))
		}
	}
	result, err := replay.Run(ctx, *o)
	reader.Progress = nil
	return result, err
}

func (a *app) proveReplay(ctx context.Context, o *replay.Options) (*replay.Proof, error) {
	bar := a.progress(-1, "comparing", false)
	defer bar.Finish() //nolint:errcheck // only drawing
	return replay.Prove(ctx, *o, func(n uint64) { _ = bar.Set64(int64(n)) })
}

func (a *app) printReplay(f *replayFlags, r *replay.Result, p *replay.Proof) error {
	if f.asJSON {
		return a.printJSON(struct {
			Archive string         `json:"archive"`
			Stream  string         `json:"stream"`
			To      string         `json:"to"`
			DryRun  bool           `json:"dry_run"`
			Result  *replay.Result `json:"result"`
			Proof   *replay.Proof  `json:"proof,omitempty"`
		}{f.o.Archive, f.o.Source, f.o.Target, f.o.DryRun, r, p})
	}
	verb := "published"
	if f.o.DryRun {
		verb = "would be published"
	}
	fmt.Fprintf(a.stdout, "%s of archive %s into %s: %s events selected, %s were there, %s %s (%s)\n", f.o.Source, f.o.Archive, f.o.Target,
		count(r.Selected), count(r.Already), count(r.Published), verb, humanize.IBytes(r.Bytes))
	if f.o.DryRun && r.Published > 0 {
		fmt.Fprintf(a.stdout, "from %s to %s; the first one, %s, as %s\n", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), r.Subject, r.Mapped)
	}
	if p == nil {
		return nil
	}
	for _, d := range p.Differences {
		fmt.Fprintf(a.stdout, "difference: %s\n", d)
	}
	verdict := "not equal"
	if p.Holds() {
		verdict = "equal"
	}
	_, err := fmt.Fprintf(a.stdout, "verify: %s; %s events as archived, %s missing, %s different, %s doubled, %s out of order; %s other messages\n", verdict,
		count(p.Equal), count(p.Missing), count(p.Different), count(p.Doubled), count(p.Disordered), count(p.Others))
	return err
}
