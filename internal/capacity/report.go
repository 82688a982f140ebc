package capacity

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/intake"
	"ossuary/internal/ledger"
)

// What one lane costs however little comes: see docs/SCALE.md, where it is counted
// at the server.
const (
	auditRequests  = 3.0       // the stream, the message at the floor, the consumer
	pullEvery      = 20.0      // seconds: a pull runs out, or is asked for anew
	pullEvents     = 1024.0    // a pull is asked for anew when half of it has come
	pullMemory     = 16 << 20  // two pulls of 8 MiB
	laneMemory     = 410 << 10 // of an idle lane, with what its server has of it
	seriesMemory   = 12 << 10  // of an open series; half of limits.memory has room for that
	deleteRequests = 3.0       // besides the write: to drop the marker of a deleted key
	peakWindow     = 10        // minutes over which a peak is averaged
	processMemory  = 100 << 20 // beside limits.memory, with one lane
	minute10       = 60 * peakWindow
)

// derived are the loads on the limits, over all lanes.
type derived struct {
	report *Report

	requests, upload, controlAppends, stream, ledger, api float64
	lane, unacknowledged, series, seriesLimit             float64
	inFlight, memory, ram, cores                          float64
}

func (w *world) report(m *machine) *Report {
	l, c := w.load, &m.count
	// What events make goes by their number, what series and lanes make by theirs.
	f := 1 / w.share
	raised := func(n int) float64 { return float64(n) * w.raise }
	mean := l.Events / 86400
	r := &Report{
		Load: Shape{EventsADay: l.Events, MeanRate: mean, PeakRate: mean * w.curve.at(peakHour*time.Hour),
			Sources: len(w.layouts), Lanes: len(w.lanes), Instances: l.Instances, Values: l.Series, Skew: l.Skew,
			Series: raised(c.names), Subject: w.subject[0], PayloadSize: l.EventSize},
		Day: Day{Events: float64(c.archived) * f, DeadLetters: float64(c.dead) * f, Skipped: float64(c.skipped) * f,
			Appends: raised(c.appends), Seals: raised(c.seals), Lists: raised(c.lists), Looks: raised(c.looks), Objects: raised(c.objects),
			EventsAppend: float64(c.archived) / math.Max(float64(c.appends), 1),
			LineBytes:    c.line * f, StoredBytes: c.stored * f, LedgerPuts: raised(c.puts), LedgerDeletes: raised(c.deletes),
			LedgerKeys: raised(m.keys()) + float64(len(w.lanes)), LaneWrites: raised(c.laneWrites) / float64(w.thin), Evictions: raised(c.evictions)},
		Delay:     Delay{Mean: c.delay.Seconds() / math.Max(float64(c.appends), 1), Longest: c.longest.Seconds()},
		Simulated: Simulated{Lanes: len(w.chosen), Events: c.in, Factor: f, In: c.in, Out: c.out},
	}
	if routes := w.cfg.Sources[0].Routes; len(routes) > 0 {
		r.Load.Template, r.Load.Linger = routes[0].Series, routes[0].Flush.Linger.String()
	}
	d := w.derive(m, r)
	r.Checks = w.checks(d)
	r.Bottleneck = Bottleneck{r.Checks[0].Name, r.Checks[0].Headroom, r.Checks[0].Mend}
	r.Cost = w.cost(&r.Day)
	r.Notes = w.notes(m, r)
	return r
}

// peaks are the greatest means over ten minutes, a second.
func (c *counts) peaks() (requests, puts, laneWrites, bytes, slots float64) {
	for i := 0; i+peakWindow <= len(c.minute); i++ {
		var sum minute
		for _, x := range c.minute[i : i+peakWindow] {
			sum.requests += x.requests
			sum.puts += x.puts
			sum.laneWrites += x.laneWrites
			sum.bytes += x.bytes
			sum.slotTime += x.slotTime
		}
		requests = max(requests, float64(sum.requests)/minute10)
		puts = max(puts, float64(sum.puts)/minute10)
		laneWrites = max(laneWrites, float64(sum.laneWrites)/minute10)
		bytes = max(bytes, sum.bytes/minute10)
		slots = max(slots, sum.slotTime.Seconds()/minute10)
	}
	return requests, puts, laneWrites, bytes, slots
}

func (w *world) derive(m *machine, r *Report) *derived {
	l, cfg := w.load, w.cfg
	f, g := 1/w.share, w.raise
	requests, puts, laneWrites, bytes, slots := m.count.peaks()
	d := &derived{report: r, inFlight: slots / float64(m.slots) * float64(cfg.Limits.ParallelAppends)}
	peakFactor := r.Load.PeakRate / r.Load.MeanRate
	peak := r.Load.PeakRate

	bySource := make([]float64, len(w.layouts))
	heaviest, top := 0.0, 0.0
	for _, x := range w.lanes {
		bySource[x.source] += x.weight / w.total * peak
		heaviest = max(heaviest, x.weight/w.total*peak)
		top = max(top, x.top/w.total*peak)
	}
	control := 0.0
	for i, lay := range w.layouts {
		raises := 0.0
		for _, x := range w.lanes {
			if x.source == i {
				raises += raiseRate(x.weight/w.total*peak, bySource[i], len(lay.LaneNames()))
			}
		}
		d.stream = max(d.stream, bySource[i])
		d.controlAppends = max(d.controlAppends, raises)
		control += raises
		perDay := raises * 86400 // by the clock, not by the rate
		r.Day.Control += perDay
		r.Day.ControlBytes += perDay * float64(controlLine(len(lay.LaneNames())))
	}
	lanes := float64(len(w.lanes))
	d.requests = requests*g + control
	d.upload = bytes * f
	// A lane without events renews its lease.
	renewals := max(lanes/(cfg.Lease.TTL.Seconds()/3)-laneWrites*g/float64(w.thin), 0)
	if cfg.Lease.Disabled {
		renewals = 0
	}
	deletes := r.Day.LedgerDeletes / 86400 * peakFactor
	d.ledger = puts*g + laneWrites*g/float64(w.thin) + renewals + deletes
	d.api = lanes*(auditRequests/cfg.Intake.Audit.Seconds()+1/pullEvery) + peak/pullEvents + deletes*deleteRequests
	d.lane = heaviest
	longest := time.Duration(0)
	for _, s := range cfg.Sources {
		for _, rt := range s.Routes {
			longest = max(longest, rt.Flush.Linger)
		}
	}
	d.unacknowledged = heaviest * (longest + l.AppendTime).Seconds()
	d.series = max(m.count.busiest, top) // what is simulated may lack the busiest value
	d.seriesLimit = m.seriesLimit(costs{l.AppendTime, l.Bandwidth})

	perInstance := float64(w.lanesPerInstance())
	d.memory = float64(m.count.mostUsed) / w.part()
	mem := float64(cfg.Limits.Memory)
	d.ram = mem + processMemory + (perInstance-1)*(pullMemory+laneMemory) + max(float64(cfg.Limits.OpenSeries)*seriesMemory-mem/2, 0)
	d.cores = (peak*l.CPUEvent.Seconds() + requests*g*l.CPUAppend.Seconds()) / float64(l.Instances)
	return d
}

// seriesLimit is how many events a second the busiest kind of series can take.
func (m *machine) seriesLimit(c costs) float64 {
	least := math.MaxFloat64
	seen := map[*rule]bool{}
	for _, l := range m.lanes {
		for _, s := range l.series {
			if seen[s.rule] {
				continue
			}
			seen[s.rule] = true
			n := min(s.rule.events, max(int(float64(grown(s.rule.size))/s.rule.sizes.line), 1))
			if s.rule.raw {
				n = min(n, maxRawEvents)
			}
			least = min(least, float64(n)/c.append(s.rule.sizes.frame(n)).Seconds())
		}
	}
	return least
}

func (m *machine) keys() (n int) {
	for _, l := range m.lanes {
		for _, s := range l.series {
			if s.inLedger {
				n++
			}
		}
	}
	return n
}

// raiseRate is how often a second a lane raises its horizon. One raise lasts for
// about as long as the intake asks for, and for half of its least step at least;
// and a lane asks when an event comes.
func raiseRate(lane, stream float64, lanes int) float64 {
	if lane <= 0 {
		return 0
	}
	lasts := max(intake.HorizonAhead(lanes).Seconds(), intake.HorizonMin/2/stream)
	return min(1/lasts, lane)
}

// controlLine is what a line of the control log takes, with as many lanes.
func controlLine(lanes int) int {
	s := control.State{Version: 1, Position: 1 << 24, Number: 1 << 20, ID: "AAAAAAAAAAAAAAAAAAAAAA", Archive: "archive", Source: "SOURCE",
		Stream: event.StreamID{Name: "SOURCE", Created: day0}, From: 1, Layouts: []control.Since{{Layout: 1, Since: 1}},
		Base: 1 << 40, Updated: day0.Add(123456789), Writer: "host-12345-AAAAAAAAAAAAAAAAAAAAAA", Tallies: map[string]control.Tally{}}
	for i := range lanes {
		name := strconv.Itoa(i)
		s.Tallies[name] = control.Tally{Tally: ledger.Tally{From: 1, Floor: 1 << 40, Events: 1 << 30}, FloorTime: day0.Add(123456789)}
		g, err := s.WithHorizon(control.Grant{Writer: "host-12345-AAAAAAAAAAAAAAAAAAAAAA/AAAAAAAA/" + name, Layout: 1,
			Horizon: 1<<40 + uint64(i) + 1, Time: day0.Add(time.Duration(i))})
		if err != nil {
			panic(fmt.Sprintf("capacity: making a state: %v", err))
		}
		s = g
	}
	b, err := json.Marshal(s)
	if err != nil { // numbers, strings and times
		panic(fmt.Sprintf("capacity: encoding a state: %v", err))
	}
	return len(b) + 1
}

func (w *world) cost(d *Day) Cost {
	p := w.load.Prices
	c := Cost{Requests: d.Appends + d.Seals + d.Control + d.Lists, Prices: p,
		Formula: "requests = appends + seals + lists + control log, all of the PUT class; their cost = requests / 10,000 × price; storage = GB stored in a day × price of a GB for a month, for each day that is kept"}
	c.RequestCost = c.Requests / 10_000 * p.Put
	c.StorageMonth = (d.StoredBytes + d.ControlBytes) / 1e9 * p.Storage
	return c
}

func (w *world) notes(m *machine, r *Report) []string {
	var out []string
	note := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(w.chosen) < len(w.lanes) {
		note("%d of %d lanes were simulated, event by event; the others are taken to be like them", len(w.chosen), len(w.lanes))
	}
	if w.thin > 1 {
		note("of these lanes one value in %d was simulated, with its share of memory and of appends at once", w.thin)
	}
	if n := m.count.dead; n > 0 {
		note("%.0f events a day become dead letters, because their route wants a header, a field or a name that this load does not have; they are not in the numbers of appends", r.Day.DeadLetters)
	}
	if m.count.skipped > 0 {
		note("%.0f events a day are not archived, because no route takes them or a route skips them", r.Day.Skipped)
	}
	if m.count.evictions > 0 {
		note("limits.open_series is reached: %.0f evictions a day; raise it, or use more lanes, if delays matter", r.Day.Evictions)
	}
	if m.count.early > 0 {
		note("batches were sent before their time because half of limits.memory was full")
	}
	if m.count.mostBlocked > 0 {
		note("up to %d events waited in the stream because memory was full or every open series was busy", m.count.mostBlocked)
	}
	if r.Load.Series < float64(r.Load.Values)*0.9 {
		note("%d values of {n} make %.0f series: the template does not tell them apart", r.Load.Values, r.Load.Series)
	}
	if float64(m.count.seals) > 0.2*float64(m.count.appends) {
		note("segments are sealed almost as often as they are appended to: roll.idle is shorter than the pauses of most series; a longer one spares a request and an object each time")
	}
	return out
}
