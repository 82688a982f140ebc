package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ossuary/internal/objectstore"
)

// lifecycle judges the rules by which the service deletes and moves objects, as
// far as they are about this archive.
func (c *checker) lifecycle(ctx context.Context, st *objectstore.Client, rules []objectstore.LifecycleRule) {
	const what = "oss lifecycle"
	before, about := len(c.found), 0
	for _, r := range rules {
		l := c.reach(r)
		if r.Status != "Enabled" || !l.own && !l.segments {
			continue
		}
		about++
		if e := r.Expiration; e != nil && (e.Days > 0 || e.Date != "" || e.CreatedBeforeDate != "") {
			c.deletes(what, l, e.Days, e.Date+e.CreatedBeforeDate)
		}
		for _, t := range r.Transitions {
			if t.StorageClass != "IA" { // takes appends, and is read as it is
				c.moves(ctx, st, what, l, t.Days, t.StorageClass)
			}
		}
	}
	if len(c.found) == before {
		c.ok(what, fmt.Sprintf("%d of %d rules are about this archive, and none hurts", about, len(rules)))
	}
}

// reach is what a rule is about.
type reach struct {
	name     string
	own      bool // the control log and the layouts
	segments bool
}

// reach errs on the side of danger: which names series have is not known here.
func (c *checker) reach(r objectstore.LifecycleRule) reach {
	meets := func(prefix string) bool {
		return strings.HasPrefix(prefix, r.Prefix) || strings.HasPrefix(r.Prefix, prefix)
	}
	own := c.cfg.OSS.Prefix + "_ossuary/"
	l := reach{name: fmt.Sprintf("rule %q (prefix %q)", r.ID, r.Prefix)}
	l.own = meets(own) && !strings.HasPrefix(r.Prefix, own+"dead/") && !strings.HasPrefix(r.Prefix, own+"check/") && len(r.Tags) == 0 // they have no tags
	l.segments = meets(c.cfg.OSS.Prefix) && (!strings.HasPrefix(r.Prefix, own) || strings.HasPrefix(r.Prefix, own+"dead/"))
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

const leaveOwn = "let the rule go by a tag (objects.tagging), which these objects do not have, or by prefixes of series"

// deletes judges a rule that deletes objects days after their last append.
func (c *checker) deletes(what string, l reach, days int, date string) {
	when := fmt.Sprintf("after %d days", days)
	if days == 0 {
		when = "by date (" + date + ")"
	}
	if l.own {
		c.problem(what, fmt.Sprintf("%s deletes the archive's control log and layouts %s; without them it can neither go on nor be verified", l.name, when), leaveOwn)
	}
	if !l.segments {
		return
	}
	if open := c.longestOpen(); days == 0 || open == 0 || open > time.Duration(days)*24*time.Hour {
		c.warn(what, fmt.Sprintf("%s deletes segments %s, and they may still be open then", l.name, when),
			"seal them before: set roll.idle to less than that for every route")
		return
	}
	c.ok(what, fmt.Sprintf("%s deletes segments %s after their last append; `consumer verify` then wants --removed-before", l.name, when))
}

// moves judges a rule that moves objects to a class in which they are not read as
// they are.
func (c *checker) moves(ctx context.Context, st *objectstore.Client, what string, l reach, days int, class string) {
	if class == "Archive" {
		direct, err := st.ReadsArchived(ctx)
		if err == nil && direct {
			return
		}
	}
	if l.own {
		c.problem(what, fmt.Sprintf("%s moves the archive's control log and layouts to %s after %d days, where they cannot be read at a start", l.name, class, days), leaveOwn)
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
	if open := c.longestOpen(); open == 0 || open > time.Duration(days)*24*time.Hour {
		c.warn(what, fmt.Sprintf("%s moves segments to Archive after %d days, and they may still be open then: what was archived cannot be read back, and their series stop", l.name, days),
			"seal them before: set roll.idle to less than that for every route; or "+mend)
		return
	}
	c.warn(what, fmt.Sprintf("%s moves segments to Archive after %d days: a series for which an event comes later stops until its last segment is restored", l.name, days), mend)
}

// longestOpen is how long after its last append a segment is sealed at the latest;
// 0: some never are.
func (c *checker) longestOpen() (longest time.Duration) {
	rolls := []time.Duration{c.cfg.Defaults.Roll.Idle} // of dead letters, and of routes that are gone
	for _, s := range c.cfg.Sources {
		for _, r := range s.Routes {
			if !r.Skip {
				rolls = append(rolls, r.Roll.Idle)
			}
		}
	}
	if slices.Contains(rolls, 0) {
		return 0
	}
	return slices.Max(rolls)
}
