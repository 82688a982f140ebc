package capacity

import (
	"math"
	"math/rand/v2"
)

// zipf is the weight of the n-th of many, counted from 0.
func zipf(n int, skew float64) float64 { return math.Pow(float64(n+1), -skew) }

// picker draws numbers by weight in constant time: Vose's alias method.
type picker struct {
	keep  []float64
	alias []int32
}

func newPicker(weights []float64) *picker {
	n := len(weights)
	p := &picker{keep: make([]float64, n), alias: make([]int32, n)}
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	var small, large []int32
	for i, w := range weights {
		p.keep[i] = w / sum * float64(n)
		if p.keep[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.alias[s] = l
		p.keep[l] -= 1 - p.keep[s]
		if p.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]int32{small, large} { // what rounding left over
		for _, i := range rest {
			p.keep[i] = 1
		}
	}
	return p
}

func (p *picker) next(r *rand.Rand) int {
	i := r.IntN(len(p.keep))
	if r.Float64() < p.keep[i] {
		return i
	}
	return int(p.alias[i])
}
