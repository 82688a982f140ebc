package capacity

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"ossuary/internal/config"
	"ossuary/internal/router"
)

// value stands in subjects for the number of what the event is about.
const value = "{n}"

// day0 is when the simulated day begins. Any would do: it shows in names only.
var day0 = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// world is a load laid over the lanes of a configuration.
type world struct {
	cfg     *config.Config
	load    *Load
	layouts []router.Layout
	subject []string // by source
	lanes   []laneLoad
	total   float64 // sum of all weights
	chosen  []int   // lanes that are simulated
	thin    int     // every so-manieth value of them is
	share   float64 // of all events, that of what is simulated
	raise   float64 // from the simulated lanes to all
	warm    time.Duration
	curve   curve
}

// laneLoad is one lane's part of the load.
type laneLoad struct {
	source int
	name   string
	weight float64
	top    float64 // of its busiest value
	values []int32 // of {n}
}

func newWorld(cfg *config.Config, load *Load) (*world, error) {
	w := &world{cfg: cfg, load: load, layouts: cfg.Layouts(), curve: newCurve(load.Peak)}
	if len(w.layouts) == 0 {
		return nil, errors.New("the configuration has no source")
	}
	first := make([]int, len(w.layouts))
	for i, l := range w.layouts {
		s, err := subjectOf(&cfg.Sources[i], load.Subject)
		if err != nil {
			return nil, fmt.Errorf("sources[%d] %s: %w", i, l.Source, err)
		}
		w.subject = append(w.subject, s)
		first[i] = len(w.lanes)
		for _, name := range l.LaneNames() {
			w.lanes = append(w.lanes, laneLoad{source: i, name: name})
		}
	}
	// Values go to the sources in turns, and in a source to the partition that the
	// server would give them.
	for n := range load.Series {
		i := n % len(w.layouts)
		lane := &w.lanes[first[i]+Partition(w.layouts[i].Lanes, tokensOf(w.subject[i], n)...)]
		weight := 1.0
		if load.Skew > 0 {
			weight = zipf(n, load.Skew)
		}
		lane.values = append(lane.values, int32(n))
		lane.weight += weight
		lane.top = max(lane.top, weight)
		w.total += weight
	}
	w.choose()
	w.warm = w.warmUp()
	return w, nil
}

// subjectOf is the pattern of a source's subjects: what was asked for, or the first
// route's subject with {n} for its first wildcard.
func subjectOf(s *config.Source, asked string) (string, error) {
	if asked != "" {
		if !strings.Contains(asked, value) {
			return "", fmt.Errorf("the subject %q has no %s, which stands for what differs from series to series", asked, value)
		}
		if err := router.CheckFilter(strings.ReplaceAll(asked, value, "1")); err != nil {
			return "", fmt.Errorf("the subject %q: %w", asked, err)
		}
		return asked, nil
	}
	for _, r := range s.Routes {
		if r.Skip || len(r.Subjects) == 0 {
			continue
		}
		tokens := strings.Split(r.Subjects[0], ".")
		first := -1
		for i, t := range tokens {
			switch {
			case t != "*" && t != ">":
			case first < 0:
				tokens[i], first = value, i
			default:
				tokens[i] = "x"
			}
		}
		if first < 0 {
			continue
		}
		return strings.Join(tokens, "."), nil
	}
	return "", fmt.Errorf("no route has a subject with a wildcard: say what subjects are like, as in events.%s.created", value)
}

// tokensOf are the tokens of a subject that its value stands in: what a stream's
// {{partition(n,..)}} would be given.
func tokensOf(pattern string, n int) []string {
	var out []string
	for t := range strings.SplitSeq(pattern, ".") {
		if strings.Contains(t, value) {
			out = append(out, strings.ReplaceAll(t, value, strconv.Itoa(n)))
		}
	}
	return out
}

// Partition is the number that the server's {{partition(n,..)}} gives these tokens.
func Partition(n int, tokens ...string) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	for _, t := range tokens {
		_, _ = h.Write([]byte(t))
	}
	return int(h.Sum32() % uint32(n))
}

// choose takes as many lanes as the sample has room for: the first of an instance,
// or, of many, every so-manieth by load, so that busy and quiet ones are there in
// their proportion.
func (w *world) choose() {
	order := make([]int, 0, len(w.lanes))
	for i := range w.lanes {
		if len(w.lanes[i].values) > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(w.lanes[b].weight, w.lanes[a].weight) })
	k := int(float64(len(order)) * float64(w.load.Sample) / w.load.Events)
	k = min(max(k, 1), len(order), max(w.lanesPerInstance(), 1))
	step := float64(len(order)) / float64(k)
	for i := range k {
		w.chosen = append(w.chosen, order[int((float64(i)+0.5)*step)])
	}
	for _, i := range w.chosen {
		w.share += w.lanes[i].weight / w.total
	}
	w.thin, w.raise = 1, float64(len(order))/float64(k)
	// Where values are alike and each has a series of its own, some of them tell
	// about all.
	if n := int(w.load.Events * w.share / float64(w.load.Sample)); n >= 2 && w.load.Skew == 0 && w.apart() {
		w.thin = n
		kept, all := 0, 0
		for _, i := range w.chosen {
			l := &w.lanes[i]
			all += len(l.values)
			var some []int32
			for j := n / 2; j < len(l.values); j += n {
				some = append(some, l.values[j])
			}
			l.values = some
			kept += len(some)
		}
		part := float64(kept) / float64(all)
		w.share *= part
		w.raise /= part
	}
}

// apart reports whether values make series of their own, and enough of them that
// some can stand for all.
func (w *world) apart() bool {
	for _, i := range w.chosen {
		l := &w.lanes[i]
		r, err := router.NewLane(w.layouts[l.source], l.name)
		if err != nil {
			return false
		}
		few := l.values[:min(len(l.values), 1000)]
		names := map[string]bool{}
		for _, n := range few {
			names[r.Resolve(&router.Message{Subject: w.subjectFor(l, n), Time: day0}).Series] = true
		}
		if len(few) < 1000 || len(names) < len(few) {
			return false
		}
	}
	return true
}

// subjectFor is the subject of a value's events as the stream stores it.
func (w *world) subjectFor(l *laneLoad, n int32) string {
	s := strings.ReplaceAll(w.subject[l.source], value, strconv.Itoa(int(n)))
	if w.layouts[l.source].Lanes > 1 {
		return l.name + "." + s
	}
	return s
}

func (w *world) lanesPerInstance() int {
	return (len(w.lanes) + w.load.Instances - 1) / w.load.Instances
}

// warmUp is how long before the day the simulation starts, so that the day finds
// batches open and idle series sealed.
func (w *world) warmUp() time.Duration {
	var linger, idle time.Duration
	for _, s := range w.cfg.Sources {
		for _, r := range s.Routes {
			linger, idle = max(linger, r.Flush.Linger), max(idle, r.Roll.Idle)
		}
	}
	return min(idle, 2*time.Hour) + min(linger, 2*time.Hour)
}

// curve is the rate over the day, as a factor of its mean: a wave that is the
// higher and the narrower the greater its peak.
type curve struct {
	sharp, norm float64
}

const peakHour = 20

func newCurve(peak float64) curve {
	c := curve{norm: 1}
	lo, hi := 0.0, 200.0
	for range 60 {
		c.sharp = (lo + hi) / 2
		sum := 0.0
		for m := range 24 * 60 {
			sum += c.raw(time.Duration(m) * time.Minute)
		}
		c.norm = sum / (24 * 60)
		if 1/c.norm < peak { // raw is 1 at the peak
			lo = c.sharp
		} else {
			hi = c.sharp
		}
	}
	return c
}

func (c curve) raw(at time.Duration) float64 {
	return math.Exp(c.sharp * (math.Cos(2*math.Pi*(at.Hours()-peakHour)/24) - 1))
}

func (c curve) at(t time.Duration) float64 { return c.raw(t) / c.norm }
