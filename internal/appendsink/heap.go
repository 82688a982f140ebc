package appendsink

import "container/heap"

// timers are the series whose first batch waits for its time, by that time and by
// age. The two differ where routes linger for different times, and it is the oldest
// event of all that keeps the floor.
type timers struct {
	due dueHeap
	age ageHeap
}

func (l *timers) empty() bool { return len(l.due) == 0 }

// add lets a series wait, which has a batch.
func (l *timers) add(s *series) {
	s.due, s.oldest = s.queue[0].due, s.queue[0].slots[0]
	heap.Push(&l.due, s)
	heap.Push(&l.age, s)
}

// remove takes a series out that waits.
func (l *timers) remove(s *series) {
	heap.Remove(&l.due, s.dueIndex)
	heap.Remove(&l.age, s.ageIndex)
}

// dueHeap orders series by the time at which their first batch is due.
type dueHeap []*series

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].dueIndex, h[j].dueIndex = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	s := x.(*series)
	s.dueIndex = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	s := pop((*[]*series)(h))
	s.dueIndex = -1
	return s
}

// ageHeap orders series by the slot of their oldest event.
type ageHeap []*series

func (h ageHeap) Len() int           { return len(h) }
func (h ageHeap) Less(i, j int) bool { return h[i].oldest < h[j].oldest }
func (h ageHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].ageIndex, h[j].ageIndex = i, j
}

// Push implements heap.Interface.
func (h *ageHeap) Push(x any) {
	s := x.(*series)
	s.ageIndex = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *ageHeap) Pop() any { return pop((*[]*series)(h)) }

func pop(h *[]*series) *series {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
