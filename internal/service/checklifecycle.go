package service

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"ossuary/internal/config"
	"ossuary/internal/objectstore"
)

// lifecycle judges the rules by which the service deletes and moves objects, as
// far as they are about this archive. fromFirst: their days count from an object's
// first append instead of its last, as they do where versioning is or was on.
func (c *checker) lifecycle(ctx context.Context, st *objectstore.Client, rules []objectstore.LifecycleRule, fromFirst bool) {
	const what = "oss lifecycle"
	before, about := len(c.found), 0
	for _, r := range rules {
		l := c.reach(r)
		if r.Status != "Enabled" || !l.own && !l.segments {
			continue
		}
		l.fromFirst = fromFirst
		about++
		if e := r.Expiration; e != nil && (e.Days > 0 || e.Date != "" || e.CreatedBeforeDate != "") {
			c.deletes(what, l, e.Days, e.Date+e.CreatedBeforeDate)
		}
		for _, t := range r.Transitions {
			if t.StorageClass != "IA" { // takes appends, and is read as it is
				c.moves(ctx, st, what, l, t.Days, t.CreatedBeforeDate, t.StorageClass)
			}
		}
	}
	if len(c.found) == before {
		c.ok(what, fmt.Sprintf("%d of %d rules are about this archive, and none hurts", about, len(rules)))
	}
}

// reach is what a rule is about.
type reach struct {
	name      string
	own       bool // the control log and the layouts
	segments  bool
	dead      bool // dead letters are among the segments
	fromFirst bool // see lifecycle
}

// reach errs on the side of danger: which names series have is not known here.
func (c *checker) reach(r objectstore.LifecycleRule) reach {
	meets := func(prefix string) bool {
		return strings.HasPrefix(prefix, r.Prefix) || strings.HasPrefix(r.Prefix, prefix)
	}
	spares := func(prefix string) bool { // all of it, whatever its tags are
		for _, not := range r.Not {
			if len(not.Tags) == 0 && strings.HasPrefix(prefix, not.Prefix) {
				return true
			}
		}
		return false
	}
	own := c.cfg.OSS.Prefix + "_ossuary/"
	l := reach{name: fmt.Sprintf("rule %q (prefix %q)", r.ID, r.Prefix)}
	if spares(c.cfg.OSS.Prefix) {
		return l
	}
	l.own = meets(own) && !spares(own) && !strings.HasPrefix(r.Prefix, own+"dead/") && !strings.HasPrefix(r.Prefix, own+"check/") && len(r.Tags) == 0 // they have no tags
	l.segments = meets(c.cfg.OSS.Prefix) && (!strings.HasPrefix(r.Prefix, own) || strings.HasPrefix(r.Prefix, own+"dead/"))
	l.dead = meets(own+"dead/") && !spares(own+"dead/")
	if l.segments && len(r.Tags) > 0 {
		l.segments = slices.ContainsFunc(segmentTags(c.cfg), func(have map[string]string) bool {
			for _, t := range r.Tags {
				if v, ok := have[t.Key]; !ok || v != t.Value {
					return false
				}
			}
			return true
		})
	}
	return l
}

const leaveOwn = "let the rule go by a tag (objects.tagging), which these objects do not have, or by prefixes of series, or except <oss.prefix>_ossuary/ from it (Filter, Not)"

func when(days int, date string) string {
	if days == 0 {
		return "by date (" + date + ")"
	}
	return fmt.Sprintf("after %d days", days)
}

// since says what the days of a rule are counted from.
func (l reach) since() string {
	if l.fromFirst {
		return "first append (versioning)"
	}
	return "last append"
}

// sealBefore says how segments are no longer open when the rule meets them.
func (l reach) sealBefore() string {
	if l.fromFirst {
		return "seal them before: with versioning the days count from a segment's first append, so set roll.age to less than that for every route, or let the names of series tell the time and set roll.idle"
	}
	return "seal them before: set roll.idle to less than that for every route"
}

// open says whether segments may still be written when a rule meets them.
func (c *checker) open(l reach, days int) bool {
	longest := c.longestOpen(l)
	return days == 0 || longest == 0 || longest > time.Duration(days)*24*time.Hour
}

// deletes judges a rule that deletes objects.
func (c *checker) deletes(what string, l reach, days int, date string) {
	when := when(days, date)
	if l.own {
		c.problem(what, fmt.Sprintf("%s deletes the archive's control log and layouts %s; without them it can neither go on nor be verified", l.name, when), leaveOwn)
	}
	if !l.segments {
		return
	}
	if c.open(l, days) {
		c.warn(what, fmt.Sprintf("%s deletes segments %s, and they may still be open then", l.name, when), l.sealBefore())
		return
	}
	c.ok(what, fmt.Sprintf("%s deletes segments %s from their %s; `consumer verify` then wants --removed-before", l.name, when, l.since()))
}

// moves judges a rule that moves objects to a class in which they are not read as
// they are.
func (c *checker) moves(ctx context.Context, st *objectstore.Client, what string, l reach, days int, date, class string) {
	if class == "Archive" {
		direct, err := st.ReadsArchived(ctx)
		if err == nil && direct {
			return
		}
	}
	when := when(days, date)
	if l.own {
		c.problem(what, fmt.Sprintf("%s moves the archive's control log and layouts to %s %s, where they cannot be read at a start", l.name, class, when), leaveOwn)
	}
	if !l.segments {
		return
	}
	if class != "Archive" {
		c.warn(what, fmt.Sprintf("%s moves segments to %s, to which the service does not take appendable objects", l.name, class),
			"use IA or Archive, or copy what is sealed")
		return
	}
	mend := "turn on the bucket's real-time access of Archive objects, or choose more days than events can come late"
	if c.open(l, days) {
		c.warn(what, fmt.Sprintf("%s moves segments to Archive %s, and they may still be open then: what was archived cannot be read back, and their series stop", l.name, when),
			l.sealBefore()+"; or "+mend)
		return
	}
	c.warn(what, fmt.Sprintf("%s moves segments to Archive %s: `consumer verify` cannot read them, and a series for which an event comes later stops until its last segment is restored", l.name, when), mend)
}

// longestOpen is how long after that which a rule's days count from a segment is
// sealed at the latest; 0: some never are.
func (c *checker) longestOpen(l reach) (longest time.Duration) {
	var all []time.Duration
	for _, s := range c.cfg.Sources {
		for _, r := range s.Routes {
			if !r.Skip {
				all = append(all, openFor(r.Roll, r.Series, l.fromFirst))
			}
		}
	}
	if l.dead || !l.fromFirst {
		// Of dead letters, and of routes that are gone. How old these may get has
		// no bound that is still known.
		all = append(all, openFor(c.cfg.Defaults.Roll, "", l.fromFirst))
	}
	if slices.Contains(all, 0) {
		return 0
	}
	return slices.Max(all)
}

// openFor is how long a segment may be written after its last append, or after its
// first; 0: for ever.
func openFor(roll config.Roll, series string, fromFirst bool) time.Duration {
	var bounds []time.Duration
	if roll.Age > 0 {
		bounds = append(bounds, roll.Age)
	}
	if roll.Idle > 0 {
		switch period := nameLasts(series); {
		case !fromFirst:
			bounds = append(bounds, roll.Idle)
		case period > 0:
			bounds = append(bounds, period+roll.Idle)
		}
	}
	if len(bounds) == 0 {
		return 0
	}
	return slices.Min(bounds)
}

var (
	timePart = regexp.MustCompile(`\{\{\s*time\(([^)]*)\)`)
	timeVerb = regexp.MustCompile(`%-?([a-zA-Z])`)
)

// nameLasts is how long events go to a series after the first that went there, by
// the time in its name; 0: there is none.
func nameLasts(series string) time.Duration {
	const day = 24 * time.Hour
	verbs := ""
	for _, part := range timePart.FindAllStringSubmatch(series, -1) {
		for _, v := range timeVerb.FindAllStringSubmatch(part[1], -1) {
			verbs += v[1]
		}
	}
	for _, u := range []struct {
		verbs string
		lasts time.Duration
	}{
		{"HMSsRT", time.Hour},
		{"djFuw", day},
		{"VUW", 7 * day},
		{"m", 31 * day},
		{"YyGg", 366 * day},
	} {
		if strings.ContainsAny(verbs, u.verbs) {
			return u.lasts
		}
	}
	return 0
}
