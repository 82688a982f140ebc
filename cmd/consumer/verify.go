package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/demo"
	"ossuary/internal/service"
)

func (a *app) verifyCommand() *cobra.Command {
	var (
		from    where
		asJSON  bool
		removed string
	)
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove the archive: every frame, every hash, every event once",
		Long: `verify reads every object and checks frames, hashes, chains and checksums,
that no event is there twice, that none is missing, and that each stands where its
layout says. Where NATS is reachable the ledger and the streams are compared as
well. It exits 0 only if all is well, 1 if something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var before time.Time
			if removed != "" {
				var err error
				if before, err = parseTime(removed); err != nil {
					return fmt.Errorf("--removed-before: %w", err)
				}
			}
			arch, err := a.open(c, &from)
			if err != nil {
				return err
			}
			defer arch.Close()
			report, err := a.verify(c.Context(), arch, before)
			if err != nil {
				return err
			}
			if from.dir != "" && report.Objects == 0 && report.Result == archive.OK {
				return fmt.Errorf("--dir %s: there is no object of an archive; name the directory that holds the objects, and with --prefix what stands before their names", from.dir)
			}
			if asJSON {
				err = a.printJSON(report)
			} else {
				a.printReport(report)
			}
			if err != nil {
				return err
			}
			if report.Result != archive.OK {
				return errFound
			}
			return nil
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&removed, "removed-before", "", "objects with events before this `TIME` may have been removed on purpose (lifecycle rules)")
	return c
}

// where says which archive a command reads.
type where struct{ dir, prefix string }

func (w *where) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.dir, "dir", "", "read the objects in this `DIR` (a copy of the bucket) instead of the store")
	c.Flags().StringVar(&w.prefix, "prefix", "", "with --dir: the `PREFIX` of the archive's keys (default: oss.prefix if --config is given)")
	_ = c.MarkFlagDirname("dir")
}

func (a *app) open(c *cobra.Command, w *where) (*service.Archive, error) {
	load := a.loadReading
	if w.dir != "" {
		load = a.load
	}
	cfg, log, err := load(c)
	if err != nil {
		return nil, err
	}
	if w.dir == "" {
		if w.prefix != "" {
			return nil, fmt.Errorf("--prefix goes with --dir; otherwise oss.prefix of the configuration holds")
		}
		return service.OpenArchive(c.Context(), cfg, log)
	}
	prefix := w.prefix
	if prefix == "" && a.configFile != "" {
		prefix = cfg.OSS.Prefix
	}
	arch, err := service.OpenDir(w.dir, prefix)
	if err != nil {
		return nil, err
	}
	if at, ok := archiveBelow(w.dir, prefix); ok {
		log.Warn().Str("dir", w.dir).Str("prefix", prefix).Msgf("no archive begins here, but one does further below: say --dir %s --prefix %s", w.dir, at)
	}
	if a.configFile != "" {
		arch.Name = cfg.Archive.Name
	}
	return arch, nil
}

// archiveBelow finds an archive that begins below the prefix in dir, where none
// begins at it: read from there every frame would seem to be in the wrong place.
func archiveBelow(dir, prefix string) (at string, ok bool) {
	const own, deepest = "_ossuary", 6
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(prefix+own))); err == nil {
		return "", false
	}
	_ = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir
		case !e.IsDir():
			return nil
		case e.Name() == own:
			at, ok = strings.TrimSuffix(name, own), true
			return fs.SkipAll
		case strings.Count(name, "/") >= deepest:
			return fs.SkipDir
		}
		return nil
	})
	return at, ok && at != ""
}

// loadReading is load for commands that read an archive: without a configuration
// and without an archive of `consumer run`, the one of `consumer demo` is meant.
func (a *app) loadReading(c *cobra.Command) (*config.Config, zerolog.Logger, error) {
	cfg, log, err := a.load(c)
	if err != nil || a.configFile != "" || service.HasLocal(cfg.Embedded.DataDir) || !service.HasLocal(demoData) {
		return cfg, log, err
	}
	log.Info().Str("dir", demoData).Msg("reading the archive of the demo; there is no other")
	return demo.Config(demoData), log, nil
}

func (a *app) verify(ctx context.Context, arch *service.Archive, removedBefore time.Time) (*archive.Report, error) {
	bar := a.progress(-1, "verifying", true)
	defer bar.Finish() //nolint:errcheck // only drawing
	return arch.Verify(ctx, removedBefore, func(done, total int64) {
		bar.ChangeMax64(max(total, 1))
		_ = bar.Set64(done)
	})
}

func (a *app) printReport(r *archive.Report) {
	for _, f := range r.Notes {
		fmt.Fprintf(a.stdout, "note: %s\n", f)
	}
	for _, f := range r.Problems {
		fmt.Fprintf(a.stdout, "problem: %s\n", f)
	}
	t := a.table("objects", "segments", "events", "dead letters", "skipped", "bytes", "duplicates", "missing", "problems", "result")
	t.SetColumnConfigs(right(1, 2, 3, 4, 5, 6, 7, 8, 9))
	t.AppendRow([]any{
		r.Objects, r.Segments, count(r.Events), count(r.DeadLetters), count(r.Skipped), humanize.IBytes(uint64(max(0, r.Bytes))),
		count(r.Duplicates), count(r.Missing), len(r.Problems), r.Result,
	})
	t.Render()
}

// count writes a number so that people can read it.
func count(n uint64) string { return humanize.Comma(int64(min(n, 1<<62))) }
