package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits are rates that somebody else sets, or that were measured. Each may be
// set to what is known better.
type Limits struct {
	OSSRequests  float64 `json:"oss_requests"`  // a second, of an account in a region
	OSSRange     float64 `json:"oss_range"`     // a second, where names follow one another
	OSSUpload    float64 `json:"oss_upload"`    // bytes a second, of an account in a region
	Stream       float64 `json:"stream"`        // messages a second that one stream stores and delivers
	LedgerWrites float64 `json:"ledger_writes"` // a second, of one bucket
	API          float64 `json:"api"`           // JetStream requests a second that one server answers
	Lane         float64 `json:"lane"`          // events a second of one lane, whose callback is one goroutine
}

// Where the defaults are from.
const (
	fromOSS      = "https://www.alibabacloud.com/help/en/oss/user-guide/limits"
	fromOSSNames = "https://www.alibabacloud.com/help/en/oss/user-guide/0004-00000302"
	fromMeasured = "measured, see docs/SCALE.md"
	fromSettings = "the configuration"
)

// DefaultLimits are those of an account in the Chinese mainland as documented, and
// of NATS as measured on two cores.
func DefaultLimits() Limits {
	return Limits{
		OSSRequests: 10_000, OSSRange: 2_000, OSSUpload: 10e9 / 8,
		Stream: 50_000, LedgerWrites: 20_000, API: 10_000, Lane: 60_000,
	}
}

// slotsBusy is how busy the slots for appends may be before batches wait for one.
const slotsBusy = 0.8

// Check is the load on one limit at the day's peak.
type Check struct {
	Name     string  `json:"name"`
	Load     float64 `json:"load"`
	Limit    float64 `json:"limit"`
	Headroom float64 `json:"headroom"` // limit by load; below 1 it does not fit
	Unit     string  `json:"unit"`
	Source   string  `json:"source"` // of the limit
	Mend     string  `json:"mend"`   // what lifts it
}

func (w *world) checks(d *derived) []Check {
	c, l, lim := w.cfg, w.load, w.load.Limits
	var all []Check
	add := func(name string, load, limit float64, unit, source, mend string) {
		headroom := math.MaxFloat64
		if load > 0 {
			headroom = limit / load
		}
		all = append(all, Check{name, load, limit, headroom, unit, source, mend})
	}
	linger := "lengthen flush.linger" + w.enoughLinger(lim.OSSRequests/2, d) + ", make fewer series, or ask Alibaba Cloud for a higher quota"
	add("OSS requests of the account", d.requests, lim.OSSRequests, "requests/s", fromOSS, linger)
	ranges := math.Pow(16, float64(c.OSS.ShardPrefix))
	add("OSS requests within one range of names", d.requests/ranges, lim.OSSRange, "requests/s", fromOSSNames,
		fmt.Sprintf("set oss.shard_prefix to %d or more", min(c.OSS.ShardPrefix+1, 4)))
	add("OSS upload of the account", d.upload, lim.OSSUpload, "bytes/s", fromOSS, "use a smaller codec (zstd), or ask Alibaba Cloud for more bandwidth")
	add("appends to one control log", d.controlAppends, 1/l.AppendTime.Seconds(), "appends/s", "one append in flight: 1 / --append-time",
		"spread the lanes over more streams")
	add("messages of one stream", d.stream, lim.Stream, "messages/s", fromMeasured, "split it into more streams, each a source")
	add("writes to the ledger's bucket", d.ledger, lim.LedgerWrites, "writes/s", fromMeasured,
		"raise ledger.interval where series are written more often than that, lengthen flush.linger, or give groups of streams an archive.name of their own, and with it a ledger")
	add("JetStream requests", d.api, lim.API, "requests/s", fromMeasured, "raise intake.audit, or use fewer lanes")
	add("events of one lane", d.lane, lim.Lane, "events/s", fromMeasured, "use more lanes; a single value of {n} cannot be split")
	add("events of one lane that wait for their acknowledgement", d.unacknowledged, float64(c.Limits.MaxAckPending)/2, "events",
		fromSettings+": half of limits.max_ack_pending, from where on batches go before their time", "raise limits.max_ack_pending, or use more lanes")
	add("events of one series", d.series, d.seriesLimit, "events/s", "one append in flight: events of a full batch / its append time",
		"raise flush.size and flush.events, or put {{lane}} or another value into the series' name")
	add("appends at once in an instance", d.inFlight, slotsBusy*float64(c.Limits.ParallelAppends), "appends", fromSettings+": 0.8 of limits.parallel_appends, from where on they queue", "raise limits.parallel_appends, or add instances")
	add("memory of waiting events in an instance", d.memory, float64(c.Limits.Memory)/2, "bytes", fromSettings+": half of limits.memory, from where on batches go before their time",
		"raise limits.memory, or add instances")
	add("memory of an instance", d.ram, float64(l.RAM), "bytes", "--ram", "add instances, so that each has fewer lanes; or lower limits.memory")
	add("CPU of an instance", d.cores, float64(l.Cores), "cores", "--cores", "add instances or cores")
	slices.SortStableFunc(all, func(a, b Check) int { return cmp.Compare(a.Headroom, b.Headroom) })
	return all
}

// enoughLinger says how long batches have to wait so that there are no more than
// target appends a second: a series with r events a second, which wait for T
// seconds from a batch's first on, makes r/(1+rT) of them.
func (w *world) enoughLinger(target float64, d *derived) string {
	if d.report.Load.Series < float64(w.load.Series)/2 || d.requests <= target {
		return "" // series are not by value, so that this says nothing
	}
	peak := d.report.Load.PeakRate / w.total
	appends := func(t float64) float64 {
		if w.load.Skew == 0 {
			r := peak
			return float64(w.load.Series) * r / (1 + r*t)
		}
		sum := 0.0
		for n := range w.load.Series {
			r := peak * w.weight(n)
			sum += r / (1 + r*t)
		}
		return sum
	}
	lo, hi := 0.0, (24 * time.Hour).Seconds()
	if appends(hi) > target {
		return ""
	}
	for hi-lo > 1+lo/50 {
		if mid := (lo + hi) / 2; appends(mid) > target {
			lo = mid
		} else {
			hi = mid
		}
	}
	return fmt.Sprintf(" (%s would make %.0f appends a second at peak)", time.Duration(math.Ceil(hi))*time.Second, target)
}
