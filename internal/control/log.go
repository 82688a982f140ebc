package control

import (
	"context"
	"io"

	"github.com/rs/zerolog"

	"ossuary/internal/object"
)

// store is the part of an object store that the control log lives on. Append is
// atomic and succeeds only where position is the object's length; errors are
// *object.Error.
type store interface {
	Append(ctx context.Context, key string, position int64, body []byte, c *object.Create) (object.Appended, error)
	Head(ctx context.Context, key string) (object.Info, error)
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
}

// Options names the control log of one source of one archive.
type Options struct {
	Archive string
	Prefix  string // of every key of the archive
	Source  string // name of the stream
	Writer  string // this instance, noted in every line for people
	Roll    int64  // bytes after which the log goes on in a next object; 0 means 64 MiB
	Log     zerolog.Logger
}

// Log is the control log of one source. It is safe for concurrent use.
type Log struct{}

// Open reads the newest state of the control log, which need not exist.
func Open(ctx context.Context, s store, o Options) (*Log, error) { panic("control: being written") }

// Exists reports whether the log held a line when it was last read.
func (l *Log) Exists() bool { panic("control: being written") }

// State is the newest state that was read or written here; the zero State if
// the log does not exist. It must not be changed.
func (l *Log) State() State { panic("control: being written") }

// Refresh reads what others have appended and returns the newest state.
func (l *Log) Refresh(ctx context.Context) (State, error) { panic("control: being written") }

// Update replaces the newest state by what fn makes of it, as one
// compare-and-swap, and returns the state that was written. fn is called again
// whenever somebody else was quicker; the error that it returns for the newest
// state is Update's. A state that fn leaves as it was is not written again.
//
// When Update returns another error the update may have been applied, or may yet
// be, unless errors.Is or errors.As says otherwise.
func (l *Log) Update(ctx context.Context, fn func(State) (State, error)) (State, error) {
	panic("control: being written")
}

// SaveLayout stores a layout and returns its number: that of an equal layout
// numbered current or higher, else a new one higher than all. current is the
// number that holds now, 0 for none; so numbers only ever rise.
func SaveLayout(ctx context.Context, s store, prefix string, canonical []byte, current int) (int, error) {
	panic("control: being written")
}

// LoadLayout reads the layout numbered n.
func LoadLayout(ctx context.Context, s store, prefix string, n int) ([]byte, error) {
	panic("control: being written")
}
