package control

import (
	"testing"
	"time"

	"ossuary/internal/event"
)

func TestRewoundStreamKeepsItsLayouts(t *testing.T) {
	id := event.StreamID{Name: "S", Created: time.Unix(1, 0).UTC()}
	s, err := State{}.NewIncarnation(id, 1, 1)
	if err == nil {
		s, err = s.WithHorizon(Grant{Writer: "a", Layout: 1, Horizon: 100, Handed: 100})
	}
	if err == nil {
		s, err = s.SwitchLayout(2)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Number = 3
	id.Incarnation++ // rewound to 150: 1-100 are archived under layout 1, and are handed out again
	next, err := s.NewIncarnation(id, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := next.LayoutAt(50); n != 1 {
		t.Errorf("sequence 50, archived under layout 1, is now under layout %d", n)
	}
	// 100 may come again too, and nothing has been granted in this life yet.
	if next, err = next.SwitchLayout(3); err != nil {
		t.Fatal(err)
	}
	if n := next.LayoutAt(100); n != 1 {
		t.Errorf("sequence 100, archived under layout 1, is under layout %d after a switch", n)
	}
}
